package kinds

import (
	"context"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/registry/rest"

	"copepod/plane/apiserver/columns"
)

// tableConvertor prints objects as rows for `kubectl get`.
type tableConvertor struct{ columns columns.Columns }

func newTable(k *Kind) rest.TableConvertor {
	c, ok := columns.For(k.GroupKind())
	if !ok {
		return rest.NewDefaultTableConvertor(k.GroupResource())
	}
	return tableConvertor{c}
}

func (t tableConvertor) ConvertToTable(_ context.Context, obj, options runtime.Object) (*metav1.Table, error) {
	table := &metav1.Table{}
	now := time.Now()
	add := func(item runtime.Object) error {
		table.Rows = append(table.Rows, metav1.TableRow{
			Cells:  t.columns.Row(item, now),
			Object: runtime.RawExtension{Object: item},
		})
		return nil
	}
	if meta.IsListType(obj) {
		if err := meta.EachListItem(obj, add); err != nil {
			return nil, err
		}
	} else if err := add(obj); err != nil {
		return nil, err
	}
	if list, err := meta.ListAccessor(obj); err == nil {
		table.ResourceVersion = list.GetResourceVersion()
		table.Continue = list.GetContinue()
		table.RemainingItemCount = list.GetRemainingItemCount()
	} else if object, err := meta.CommonAccessor(obj); err == nil {
		table.ResourceVersion = object.GetResourceVersion()
	}
	if o, ok := options.(*metav1.TableOptions); !ok || !o.NoHeaders {
		table.ColumnDefinitions = t.columns.Definitions
	}
	return table, nil
}
