package cmd

import "testing"

// calculating exports functions that show what goes in and out of --invoke.
const calculating = "\x00asm\x01\x00\x00\x00" +
	// types: (i32 i32)->i32, (i64)->i64, (f32)->f32, (f64)->f64 f64, ()->(), (externref)->()
	"\x01\x1e\x06\x60\x02\x7f\x7f\x01\x7f\x60\x01\x7e\x01\x7e\x60\x01\x7d\x01\x7d\x60\x01\x7c\x02\x7c\x7c\x60\x00\x00\x60\x01\x6f\x00" +
	"\x03\x07\x06\x00\x01\x02\x03\x04\x05" +
	"\x07\x2b\x06\x03add\x00\x00\x04long\x00\x01\x05short\x00\x02\x05twice\x00\x03\x04fail\x00\x04\x03ref\x00\x05" +
	"\x0a\x21\x06" +
	"\x07\x00\x20\x00\x20\x01\x6a\x0b" + // i32.add
	"\x04\x00\x20\x00\x0b" +
	"\x04\x00\x20\x00\x0b" +
	"\x06\x00\x20\x00\x20\x00\x0b" +
	"\x03\x00\x00\x0b" + // unreachable
	"\x02\x00\x0b"

func (b *localBench) invokes(t *testing.T) {
	m := file(t, "calc.wasm", calculating)
	call := func(function string, args ...string) []string {
		return append([]string{"--invoke", function, m, "--"}, args...)
	}
	b.rows(t, []row{
		{name: "i32", args: call("add", "2", "-3"), out: "-1\n"},
		{name: "i32 wraps", args: call("add", "0xffffffff", "4294967295"), out: "-2\n"},
		{name: "i64", args: call("long", "-9223372036854775808"), out: "-9223372036854775808\n"},
		{name: "f32", args: call("short", "0.1"), out: "0.1\n"},
		{name: "two results, one a line", args: call("twice", "2.5"), out: "2.5\n2.5\n"},
		{name: "a trap", args: call("fail"), code: 134, errs: "unreachable"},
		{name: "too few", args: call("add", "1"), code: 1, errs: "calc.wasm: add(i32, i32): got 1 arguments, want 2"},
		{name: "no number", args: call("add", "1", "x"), code: 1, errs: `argument 2: "x" is not a number of type i32`},
		{name: "out of range", args: call("add", "1", "4294967296"), code: 1, errs: `argument 2: "4294967296" is out of the range of i32`},
		{name: "a reference", args: call("ref", "1"), code: 1, errs: "a value of type externref cannot be given on the command line"},
		{name: "no such function", args: call("sub", "1"), code: 1, errs: `no function "sub" is exported; these are: add, long, short, twice, fail, ref`},
		{name: "with --listen", args: append([]string{"--listen", ":0"}, call("add", "1", "2")...), code: 1, errs: "--listen works only without --invoke"},
	})
}
