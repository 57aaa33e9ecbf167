package store_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"copepod/plane/store"
)

func Example() {
	st, err := store.Open(store.Config{Log: slog.New(slog.DiscardHandler)}) // in memory: no Dir
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	ran := make(chan error)
	go func() { ran <- st.Run(ctx) }()
	<-st.Ready()

	watch, err := st.Watch(ctx, "fruit/", 1)
	if err != nil {
		fmt.Println(err)
		return
	}
	put := store.Op{Kind: store.Put, Key: "fruit/apple", Value: []byte("red"), Expect: store.Absent}
	res, err := st.Txn(ctx, put)
	fmt.Println(res.Rev, err)
	_, err = st.Txn(ctx, put)
	var conflict *store.ConflictError
	fmt.Println(errors.As(err, &conflict), err)
	for _, event := range <-watch.Events() {
		fmt.Printf("%d %s=%s\n", event.Rev, event.Key(), event.Cur.Value)
	}
	stop()
	fmt.Println(<-ran)
	// Output:
	// 1 <nil>
	// true key "fruit/apple": must be absent: it is at revision 1
	// 1 fruit/apple=red
	// <nil>
}
