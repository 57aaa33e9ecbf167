package mvcc_test

import (
	"fmt"
	"time"

	"copepod/plane/store/mvcc"
)

func Example() {
	m := mvcc.NewMachine(mvcc.Limits{})
	put := func(value string, expect mvcc.Expect) {
		txn := mvcc.AppendTxn(nil, mvcc.Txn{{Kind: mvcc.Put, Key: "a", Value: []byte(value), Expect: expect}})
		replies, err := m.Apply(mvcc.EncodeTxns(time.Now(), txn))
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(replies[0].Result.Rev, replies[0].Err)
	}
	put("one", mvcc.Absent)
	put("two", mvcc.Exact(1))
	put("three", mvcc.Exact(1))

	now := m.Publish()
	past, err := now.At(1)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%s, before that %s\n", now.Get("a").Value, past.Get("a").Value)
	// Output:
	// 1 <nil>
	// 2 <nil>
	// 0 key "a": must be at revision 1: it is at revision 2
	// two, before that one
}
