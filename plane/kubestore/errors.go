package kubestore

import (
	"context"
	"errors"
	"fmt"

	"copepod/plane/store"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apiserver/pkg/storage"
)

// ErrExpired says that the changes since a resource version are no longer
// kept: take a new View and go on from there. See *ExpiredError.
var ErrExpired = errors.New("resource version is too old")

// ExpiredError is an ErrExpired with its numbers.
type ExpiredError struct {
	From   uint64 // the resource version asked for
	Oldest uint64 // the oldest that can be asked for
}

func (e *ExpiredError) Error() string {
	return fmt.Sprintf("too old resource version: %d (%d)", e.From, e.Oldest)
}

// Unwrap makes it an ErrExpired.
func (e *ExpiredError) Unwrap() error { return ErrExpired }

// The messages of Kubernetes for lists whose revision is gone.
const (
	listExpired     = "The resourceVersion for the provided list is too old."
	continueExpired = "The provided continue parameter is too old " +
		"to display a consistent list result. You can start a new list without " +
		"the continue parameter."
	inconsistentContinue = "The provided continue parameter is too old " +
		"to display a consistent list result. You can start a new list without " +
		"the continue parameter, or use the continue token in this response to " +
		"retrieve the remainder of the results. Continuing with the provided " +
		"token results in an inconsistent list - objects that were created, " +
		"modified, or deleted between the time the first chunk was returned " +
		"and now may show up in the list."
)

// expiredList is the answer to a list at a revision that is gone. A paged
// list gets a token with which it can go on at the current one.
func expiredList(paging bool, continueKey, prefix string) error {
	if !paging {
		return apierrors.NewResourceExpired(listExpired)
	}
	token, err := storage.EncodeContinue(continueKey, prefix, -1) // -1: at the latest version
	if err != nil {
		return apierrors.NewResourceExpired(continueExpired)
	}
	expired := apierrors.NewResourceExpired(inconsistentContinue)
	expired.ErrStatus.ListMeta.Continue = token
	return expired
}

// backendError says in the words of Kubernetes why the store did not do what
// concerns key. A *store.ConflictError it leaves to the caller, unwrapped.
func backendError(key string, err error) error {
	var conflict *store.ConflictError
	switch {
	case errors.As(err, &conflict):
		return conflict
	case errors.Is(err, context.DeadlineExceeded):
		return storage.NewTimeoutError(key, "request did not complete within requested timeout")
	case errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, store.ErrNotLeader):
		return storage.NewUnreachableError(key, 0)
	case errors.Is(err, store.ErrInvalid):
		return apierrors.NewRequestEntityTooLargeError(err.Error())
	}
	return apierrors.NewServiceUnavailable(err.Error())
}

// readError is what Get, Delete and updates say of an object that cannot be
// read.
func readError(err error) error {
	var t *transformError
	if errors.As(err, &t) {
		return storage.NewInternalError(t.err)
	}
	return err
}
