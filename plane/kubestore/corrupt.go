package kubestore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/features"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/value"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
)

// With the feature AllowUnsafeMalformedObjectDeletion (KEP-3926) an object
// that can no longer be read can be found in lists and deleted.

func unsafeDeletion() bool {
	return utilfeature.DefaultFeatureGate.Enabled(features.AllowUnsafeMalformedObjectDeletion)
}

// corruptError says that a stored object cannot be read, and never will be.
type corruptError struct {
	err  error
	what string
}

func (e *corruptError) Error() string { return e.what + ": " + e.err.Error() }
func (e *corruptError) Unwrap() error { return e.err }

// corruptTransformer and corruptCodec take all failures for corruption.
type corruptTransformer struct{ value.Transformer }

func (t corruptTransformer) TransformFromStorage(ctx context.Context, data []byte, dataCtx value.Context) ([]byte, bool, error) {
	out, stale, err := t.Transformer.TransformFromStorage(ctx, data, dataCtx)
	if err != nil {
		err = &corruptError{err, "data from the storage is not transformable"}
	}
	return out, stale, err
}

type corruptCodec struct{ runtime.Codec }

func (c corruptCodec) Decode(data []byte, defaults *schema.GroupVersionKind, into runtime.Object) (runtime.Object, *schema.GroupVersionKind, error) {
	obj, gvk, err := c.Codec.Decode(data, defaults, into)
	if err != nil {
		err = &corruptError{err, "object not decodable"}
	}
	return obj, gvk, err
}

// EncodeWithAllocator implements runtime.EncoderWithAllocator.
func (c corruptCodec) EncodeWithAllocator(obj runtime.Object, w io.Writer, alloc runtime.MemoryAllocator) error {
	if enc, ok := c.Codec.(runtime.EncoderWithAllocator); ok {
		return enc.EncodeWithAllocator(obj, w, alloc)
	}
	return c.Codec.Encode(obj, w)
}

// corruptDeleter is the storage that a registry needs for unsafe deletion: it
// tells corrupt objects from other errors.
type corruptDeleter struct {
	storage.Interface
	group schema.GroupResource
}

// Get implements storage.Interface.
func (s corruptDeleter) Get(ctx context.Context, key string, opts storage.GetOptions, out runtime.Object) error {
	err := s.Interface.Get(ctx, key, opts, out)
	var corrupt *corruptError
	if errors.As(err, &corrupt) {
		return storage.NewCorruptObjError(key, corrupt)
	}
	return err
}

// GetList implements storage.Interface.
func (s corruptDeleter) GetList(ctx context.Context, key string, opts storage.ListOptions, list runtime.Object) error {
	err := s.Interface.GetList(ctx, key, opts, list)
	var many *unreadableError
	if errors.As(err, &many) {
		return many.status(s.group)
	}
	return err
}

// maxUnreadable is how many corrupt objects one list reports.
const maxUnreadable = 100

var errTooMany = errors.New("too many errors, the list is truncated")

// listErrors collects what goes wrong while a list is read: the first error
// ends it, except that corrupt objects are passed over if they can be deleted.
type listErrors struct {
	pass    bool
	corrupt []*storage.StorageError
	abort   error
}

func newListErrors() listErrors { return listErrors{pass: unsafeDeletion()} }

// add returns true if the list ends.
func (l *listErrors) add(key string, err error) bool {
	var corrupt *corruptError
	if !l.pass || !errors.As(err, &corrupt) {
		l.abort = err
		return true
	}
	l.corrupt = append(l.corrupt, storage.NewCorruptObjError(key, corrupt))
	if len(l.corrupt) >= maxUnreadable {
		l.abort = errTooMany
		return true
	}
	return false
}

func (l *listErrors) aggregate() error {
	if len(l.corrupt) == 0 {
		return l.abort
	}
	return &unreadableError{corrupt: l.corrupt, abort: l.abort}
}

// unreadableError is a list with corrupt objects.
type unreadableError struct {
	corrupt []*storage.StorageError
	abort   error // why the list ended early, nil if it did not
}

func (e *unreadableError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "unable to transform or decode %d objects: {\n", len(e.corrupt))
	for _, err := range e.corrupt {
		fmt.Fprintf(&b, "\t%s\n", err)
	}
	b.WriteString("}")
	if e.abort != nil {
		fmt.Fprintf(&b, ", aborted: %v", e.abort)
	}
	return b.String()
}

// status is what a client is told, in the words of Kubernetes.
func (e *unreadableError) status(group schema.GroupResource) error {
	var causes []metav1.StatusCause
	for _, err := range e.corrupt {
		causes = append(causes, metav1.StatusCause{
			Type: metav1.CauseTypeUnexpectedServerResponse, Field: err.Key, Message: err.Error(),
		})
	}
	switch {
	case errors.Is(e.abort, errTooMany):
		causes = append(causes, metav1.StatusCause{Type: metav1.CauseTypeTooMany, Message: errTooMany.Error()})
	case e.abort != nil:
		causes = append(causes, metav1.StatusCause{Type: metav1.CauseTypeUnexpectedServerResponse, Message: e.abort.Error()})
	}
	message := fmt.Sprintf("failed to read one or more %s from the storage: %v", group, e.corrupt[0])
	if n := len(e.corrupt) - 1; n > 0 {
		message = fmt.Sprintf("%s (and %d more)", message, n)
	}
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status:  metav1.StatusFailure,
		Code:    http.StatusInternalServerError,
		Reason:  metav1.StatusReasonStoreReadError,
		Message: message,
		Details: &metav1.StatusDetails{Group: group.Group, Kind: group.Resource, Name: "list", Causes: causes},
	}}
}

func isCorrupt(err error) bool {
	var corrupt *corruptError
	return errors.As(err, &corrupt)
}
