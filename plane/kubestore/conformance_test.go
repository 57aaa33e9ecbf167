package kubestore

import (
	"context"
	"errors"
	"go/ast"
	"go/build"
	"go/parser"
	"go/token"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"copepod/plane/store"

	"k8s.io/apimachinery/pkg/api/apitesting"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apiserver/pkg/apis/example"
	examplev1 "k8s.io/apiserver/pkg/apis/example/v1"
	"k8s.io/apiserver/pkg/features"
	"k8s.io/apiserver/pkg/storage"
	storagetesting "k8s.io/apiserver/pkg/storage/testing"
	"k8s.io/apiserver/pkg/storage/value"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	featuregatetesting "k8s.io/component-base/featuregate/testing"
)

const testPrefix = "test!" // what the transformer of the tests puts before values

// lab is a store in memory with a resource of example pods.
type lab struct {
	*resource
	store *store.Store
	codec *switchCodec
	seal  *switchTransformer
}

func exampleCodec() runtime.Codec {
	scheme := runtime.NewScheme()
	metav1.AddToGroupVersion(scheme, metav1.SchemeGroupVersion)
	if err := errors.Join(example.AddToScheme(scheme), examplev1.AddToScheme(scheme)); err != nil {
		panic(err)
	}
	return apitesting.TestCodec(serializer.NewCodecFactory(scheme), examplev1.SchemeGroupVersion)
}

// openStore runs a store in memory until the test ends.
func openStore(t testing.TB) *store.Store {
	t.Helper()
	st, err := store.Open(store.Config{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	runUntilEnd(t, st.Run)
	<-st.Ready()
	return st
}

func runUntilEnd(t testing.TB, run func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: got %v, want no error", err)
		}
	})
}

func newLab(t testing.TB) *lab {
	t.Helper()
	st := openStore(t)
	k, err := New(st, Config{Prefix: "/", BookmarkInterval: 200 * time.Millisecond, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	runUntilEnd(t, k.Run)
	l := &lab{store: st, codec: &switchCodec{Codec: exampleCodec()},
		seal: &switchTransformer{Transformer: storagetesting.NewPrefixTransformer([]byte(testPrefix), false)}}
	l.resource, err = k.add(resourceConfig{
		group:       schema.GroupResource{Resource: "pods"},
		root:        "/pods/",
		codec:       l.codec,
		transformer: l.seal.Transformer,
		newFunc:     func() runtime.Object { return &example.Pod{} },
	})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// switchCodec and switchTransformer fail while they are told to.
type switchCodec struct {
	runtime.Codec
	fail atomic.Bool
}

func (c *switchCodec) Decode(data []byte, defaults *schema.GroupVersionKind, into runtime.Object) (runtime.Object, *schema.GroupVersionKind, error) {
	if c.fail.Load() {
		return nil, nil, errors.New("synthetic error")
	}
	return c.Codec.Decode(data, defaults, into)
}

type switchTransformer struct {
	value.Transformer
	fail atomic.Bool
}

func (s *switchTransformer) TransformFromStorage(ctx context.Context, data []byte, dataCtx value.Context) ([]byte, bool, error) {
	if s.fail.Load() {
		return nil, false, errors.New("synthetic error")
	}
	return s.Transformer.TransformFromStorage(ctx, data, dataCtx)
}

// reform replaces the transformer until the result is called.
func (l *lab) reform(t value.Transformer) (revert func()) {
	was := l.form.Load()
	now := *was
	now.transformer = t
	l.form.Store(&now)
	return func() { l.form.Store(was) }
}

// UpdatePrefixTransformer implements storagetesting.InterfaceWithPrefixTransformer.
func (l *lab) UpdatePrefixTransformer(modify storagetesting.PrefixTransformerModifier) func() {
	t := *l.form.Load().transformer.(*storagetesting.PrefixTransformer)
	return l.reform(modify(&t))
}

// overridable implements storagetesting.InterfaceWithTransformerOverride.
type overridable struct {
	storage.Interface
	lab *lab
}

func (o overridable) UpdateTransformer(modify storagetesting.TransformerModifier) func() {
	return o.lab.reform(modify(o.lab.form.Load().transformer))
}

// stored checks that what lies in the store has no version and no link.
func (l *lab) stored(_ context.Context, t *testing.T, key string) {
	kv := l.store.Snapshot().Get(key)
	if kv == nil {
		t.Fatalf("key %s: got nothing, want an object", key)
	}
	obj, err := runtime.Decode(l.codec, kv.Value[len(testPrefix):])
	if err != nil {
		t.Fatalf("key %s: got %v, want an object", key, err)
	}
	if pod := obj.(*example.Pod); pod.ResourceVersion != "" || pod.GetSelfLink() != "" {
		t.Errorf("key %s: got version %q and link %q, want none", key, pod.ResourceVersion, pod.GetSelfLink())
	}
}

func (l *lab) compact(ctx context.Context, t *testing.T, resourceVersion string) {
	rv, err := versioner.ParseResourceVersion(resourceVersion)
	if err == nil {
		err = l.store.Compact(ctx, revision(rv))
	}
	if err != nil {
		t.Fatalf("compact to %s: %v", resourceVersion, err)
	}
}

// advance makes a revision that has nothing to do with the resource.
func (l *lab) advance(ctx context.Context, t *testing.T) int64 {
	res, err := l.store.Txn(ctx, store.Op{Kind: store.Put, Key: "/other", Value: []byte("x")})
	if err != nil {
		t.Fatal(err)
	}
	return int64(version(res.Rev))
}

func plainSuite(run func(context.Context, *testing.T, storage.Interface)) func(context.Context, *testing.T, *lab) {
	return func(ctx context.Context, t *testing.T, l *lab) { run(ctx, t, l.resource) }
}

// TestStorageIsWhatKubernetesExpects runs the conformance suite of
// k8s.io/apiserver for implementations of storage.Interface.
func TestStorageIsWhatKubernetesExpects(t *testing.T) {
	for _, s := range suite {
		t.Run(s.name, func(t *testing.T) {
			featuregatetesting.SetFeatureGateDuringTest(t, utilfeature.DefaultFeatureGate, features.AllowUnsafeMalformedObjectDeletion, !s.safe)
			s.run(context.Background(), t, newLab(t))
		})
	}
}

type suiteRow struct {
	name string
	safe bool // without unsafe deletion of unreadable objects
	run  func(context.Context, *testing.T, *lab)
}

// flipped is the corruption that the suite injects.
var flipped = &corruptError{errors.New("bits flipped"), "data from the storage is not transformable"}

var suite = []suiteRow{
	{name: "RunTestCreate", run: func(ctx context.Context, t *testing.T, l *lab) {
		storagetesting.RunTestCreate(ctx, t, l.resource, l.stored)
	}},
	{name: "RunTestCreateWithTTL", run: plainSuite(storagetesting.RunTestCreateWithTTL)},
	{name: "RunTestCreateWithKeyExist", run: plainSuite(storagetesting.RunTestCreateWithKeyExist)},
	{name: "RunTestGet", run: plainSuite(storagetesting.RunTestGet)},
	{name: "RunTestUnconditionalDelete", run: plainSuite(storagetesting.RunTestUnconditionalDelete)},
	{name: "RunTestConditionalDelete", run: plainSuite(storagetesting.RunTestConditionalDelete)},
	{name: "RunTestDeleteWithSuggestion", run: plainSuite(storagetesting.RunTestDeleteWithSuggestion)},
	{name: "RunTestDeleteWithSuggestionAndConflict", run: plainSuite(storagetesting.RunTestDeleteWithSuggestionAndConflict)},
	{name: "RunTestDeleteWithSuggestionOfDeletedObject", run: plainSuite(storagetesting.RunTestDeleteWithSuggestionOfDeletedObject)},
	{name: "RunTestValidateDeletionWithSuggestion", run: plainSuite(storagetesting.RunTestValidateDeletionWithSuggestion)},
	{name: "RunTestValidateDeletionWithOnlySuggestionValid", run: plainSuite(storagetesting.RunTestValidateDeletionWithOnlySuggestionValid)},
	{name: "RunTestDeleteWithConflict", run: plainSuite(storagetesting.RunTestDeleteWithConflict)},
	{name: "RunTestPreconditionalDeleteWithSuggestion", run: plainSuite(storagetesting.RunTestPreconditionalDeleteWithSuggestion)},
	{name: "RunTestPreconditionalDeleteWithOnlySuggestionPass", run: plainSuite(storagetesting.RunTestPreconditionalDeleteWithOnlySuggestionPass)},
	{name: "RunTestDeleteWithConflictAndMissingExpectedTransformOrDecodeError", run: func(ctx context.Context, t *testing.T, l *lab) {
		storagetesting.RunTestDeleteWithConflictAndMissingExpectedTransformOrDecodeError(ctx, t, l.resource, l.codec.fail.Store)
	}},
	{name: "RunTestDeleteExpectedTransformOrDecodeError", run: func(ctx context.Context, t *testing.T, l *lab) {
		storagetesting.RunTestDeleteExpectedTransformOrDecodeError(ctx, t, l.resource, l.codec.fail.Store)
		l = newLab(t)
		l.reform(l.seal)
		storagetesting.RunTestDeleteExpectedTransformOrDecodeError(ctx, t, l.resource, l.seal.fail.Store)
	}},
	{name: "RunTestDeleteWithSuggestionAndMissingExpectedTransformOrDecodeError", run: func(ctx context.Context, t *testing.T, l *lab) {
		storagetesting.RunTestDeleteWithSuggestionAndMissingExpectedTransformOrDecodeError(ctx, t, l.resource)
	}},
	{name: "RunTestList", run: func(ctx context.Context, t *testing.T, l *lab) {
		compact := func(ctx context.Context, t *testing.T, resourceVersion string) {
			l.compact(ctx, t, resourceVersion)
			l.advance(ctx, t) // as the compactor of Kubernetes does by leaving a note
		}
		storagetesting.RunTestList(ctx, t, l.resource, compact, false, nil)
	}},
	{name: "RunTestConsistentList", run: func(ctx context.Context, t *testing.T, l *lab) {
		storagetesting.RunTestConsistentList(ctx, t, l.resource, l.advance, false, true, false)
	}},
	{name: "RunTestGetListNonRecursive", run: func(ctx context.Context, t *testing.T, l *lab) {
		storagetesting.RunTestGetListNonRecursive(ctx, t, l.advance, l.resource)
	}},
	{name: "RunTestGetListRecursivePrefix", run: plainSuite(storagetesting.RunTestGetListRecursivePrefix)},
	{name: "RunTestGetListWithErrorAggregation", run: func(ctx context.Context, t *testing.T, l *lab) {
		store := overridable{corruptDeleter{l.resource, l.group}, l}
		storagetesting.RunTestGetListWithErrorAggregation(ctx, t, store, flipped)
	}},
	{name: "RunTestGetListWithoutErrorAggregation", safe: true, run: func(ctx context.Context, t *testing.T, l *lab) {
		storagetesting.RunTestGetListWithoutErrorAggregation(ctx, t, overridable{l.resource, l}, flipped)
	}},
	// The callbacks of the next three count the calls to etcd and to the
	// transformer; there is no etcd, and what is decoded is not read again.
	{name: "RunTestListContinuation", run: func(ctx context.Context, t *testing.T, l *lab) {
		storagetesting.RunTestListContinuation(ctx, t, l.resource, nil)
	}},
	{name: "RunTestListPaginationRareObject", run: func(ctx context.Context, t *testing.T, l *lab) {
		storagetesting.RunTestListPaginationRareObject(ctx, t, l.resource, nil)
	}},
	{name: "RunTestListContinuationWithFilter", run: func(ctx context.Context, t *testing.T, l *lab) {
		storagetesting.RunTestListContinuationWithFilter(ctx, t, l.resource, nil)
	}},
	{name: "RunTestListInconsistentContinuation", run: func(ctx context.Context, t *testing.T, l *lab) {
		storagetesting.RunTestListInconsistentContinuation(ctx, t, l.resource, l.compact)
	}},
	{name: "RunTestListResourceVersionMatch", run: func(ctx context.Context, t *testing.T, l *lab) {
		storagetesting.RunTestListResourceVersionMatch(ctx, t, l)
	}},
	{name: "RunTestGuaranteedUpdate", run: func(ctx context.Context, t *testing.T, l *lab) {
		storagetesting.RunTestGuaranteedUpdate(ctx, t, l, l.stored)
	}},
	{name: "RunTestGuaranteedUpdateWithTTL", run: plainSuite(storagetesting.RunTestGuaranteedUpdateWithTTL)},
	{name: "RunTestGuaranteedUpdateChecksStoredData", run: func(ctx context.Context, t *testing.T, l *lab) {
		storagetesting.RunTestGuaranteedUpdateChecksStoredData(ctx, t, l)
	}},
	{name: "RunTestGuaranteedUpdateWithConflict", run: plainSuite(storagetesting.RunTestGuaranteedUpdateWithConflict)},
	{name: "RunTestGuaranteedUpdateWithSuggestionAndConflict", run: plainSuite(storagetesting.RunTestGuaranteedUpdateWithSuggestionAndConflict)},
	{name: "RunTestTransformationFailure", run: func(ctx context.Context, t *testing.T, l *lab) {
		storagetesting.RunTestTransformationFailure(ctx, t, l)
	}},
	{name: "RunTestStats", run: func(ctx context.Context, t *testing.T, l *lab) {
		storagetesting.RunTestStats(ctx, t, l.resource, l.codec, l.seal, false)
		if err := l.EnableResourceSizeEstimation(func(context.Context) ([]string, error) { return nil, nil }); err != nil {
			t.Fatal(err)
		}
		storagetesting.RunTestStats(ctx, t, l.resource, l.codec, l.seal, true)
	}},
	{name: "RunTestListPaging", run: plainSuite(storagetesting.RunTestListPaging)},
	{name: "RunTestNamespaceScopedList", run: plainSuite(storagetesting.RunTestNamespaceScopedList)},
	{name: "RunTestCompactRevision", run: func(ctx context.Context, t *testing.T, l *lab) {
		storagetesting.RunTestCompactRevision(ctx, t, l.resource, l.advance, l.compact)
	}},
	{name: "RunTestKeySchema", run: plainSuite(storagetesting.RunTestKeySchema)},
	{name: "RunTestWatch", run: plainSuite(storagetesting.RunTestWatch)},
	{name: "RunTestWatchFromZero", run: func(ctx context.Context, t *testing.T, l *lab) {
		storagetesting.RunTestWatchFromZero(ctx, t, l.resource, l.compact)
	}},
	{name: "RunTestDeleteTriggerWatch", run: plainSuite(storagetesting.RunTestDeleteTriggerWatch)},
	{name: "RunTestWatchFromNonZero", run: plainSuite(storagetesting.RunTestWatchFromNonZero)},
	{name: "RunTestDelayedWatchDelivery", run: plainSuite(storagetesting.RunTestDelayedWatchDelivery)},
	{name: "RunTestWatchError", run: func(ctx context.Context, t *testing.T, l *lab) {
		storagetesting.RunTestWatchError(ctx, t, l)
	}},
	{name: "RunTestWatchWithUnsafeDelete", run: func(ctx context.Context, t *testing.T, l *lab) {
		storagetesting.RunTestWatchWithUnsafeDelete(ctx, t, overridable{l.resource, l}, flipped)
	}},
	{name: "RunTestWatchContextCancel", run: plainSuite(storagetesting.RunTestWatchContextCancel)},
	{name: "RunTestWatcherTimeout", run: plainSuite(storagetesting.RunTestWatcherTimeout)},
	{name: "RunTestWatchDeleteEventObjectHaveLatestRV", run: plainSuite(storagetesting.RunTestWatchDeleteEventObjectHaveLatestRV)},
	{name: "RunTestWatchInitializationSignal", run: plainSuite(storagetesting.RunTestWatchInitializationSignal)},
	{name: "RunOptionalTestProgressNotify", run: func(ctx context.Context, t *testing.T, l *lab) {
		storagetesting.RunOptionalTestProgressNotify(ctx, t, l.resource, l.advance)
	}},
	{name: "RunTestClusterScopedWatch", run: plainSuite(storagetesting.RunTestClusterScopedWatch)},
	{name: "RunTestNamespaceScopedWatch", run: plainSuite(storagetesting.RunTestNamespaceScopedWatch)},
	{name: "RunTestWatchDispatchBookmarkEvents", run: func(ctx context.Context, t *testing.T, l *lab) {
		storagetesting.RunTestWatchDispatchBookmarkEvents(ctx, t, l.resource, true)
	}},
	{name: "RunTestOptionalWatchBookmarksWithCorrectResourceVersion", run: plainSuite(storagetesting.RunTestOptionalWatchBookmarksWithCorrectResourceVersion)},
	{name: "RunSendInitialEventsBackwardCompatibility", run: plainSuite(storagetesting.RunSendInitialEventsBackwardCompatibility)},
	{name: "RunWatchSemantics", run: plainSuite(storagetesting.RunWatchSemantics)},
	{name: "RunWatchSemanticInitialEventsExtended", run: func(ctx context.Context, t *testing.T, l *lab) {
		l.k.cfg.BookmarkInterval = time.Minute // it wants no other bookmark
		storagetesting.RunWatchSemanticInitialEventsExtended(ctx, t, l.resource)
	}},
	{name: "RunWatchListMatchSingle", run: func(ctx context.Context, t *testing.T, l *lab) {
		l.k.cfg.BookmarkInterval = time.Minute
		storagetesting.RunWatchListMatchSingle(ctx, t, l.resource)
	}},
	{name: "RunWatchErrorIsBlockingFurtherEvents", run: func(ctx context.Context, t *testing.T, l *lab) {
		storagetesting.RunWatchErrorIsBlockingFurtherEvents(ctx, t, l)
	}},
}

// notApplicable are the tests of the suite that are left out, and why: none.
var notApplicable = map[string]string{}

func TestSuiteIsComplete(t *testing.T) {
	pkg, err := build.Import("k8s.io/apiserver/pkg/storage/testing", ".", build.FindOnly)
	if err != nil {
		t.Skipf("sources of the suite: %v", err)
	}
	files, err := filepath.Glob(filepath.Join(pkg.Dir, "*_tests.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("sources of the suite in %s: got %d (%v), want some", pkg.Dir, len(files), err)
	}
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || f.Recv != nil || !strings.HasPrefix(f.Name.Name, "Run") {
				continue
			}
			run := slices.ContainsFunc(suite, func(r suiteRow) bool { return r.name == f.Name.Name })
			if _, left := notApplicable[f.Name.Name]; run == left {
				t.Errorf("%s: got run %v and left out %v, want one of them", f.Name.Name, run, left)
			}
		}
	}
}
