package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"text/tabwriter"
	"time"

	"copepod-bench-wasmtime/harness"
)

// programs are those that BenchmarkTax of package rewrite runs, with more to do:
// what a start takes should not show.
const programs = "../../../wasmrt/rewrite/testdata"

// speed compares compiled code.
func speed(ctx context.Context, lab *harness.Lab, rounds int) error {
	kernels, err := lab.C(ctx, filepath.Join(programs, "kernels.c"))
	if err != nil {
		return err
	}
	goProgram, err := lab.Go(ctx, filepath.Join(programs, "program.go"))
	if err != nil {
		return err
	}
	all := engines(lab)
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Printf("\nprocessor time, best of %d; wazero = 1\n", rounds)
	fmt.Fprintf(table, "%*s", nameWidth, "")
	for _, e := range all {
		fmt.Fprintf(table, "\t%s", e.name)
	}
	fmt.Fprintln(table, "\t")
	logs := make([]float64, len(all))
	rows := []struct {
		name string
		code []byte
		args []string
	}{
		{"sieve", kernels, []string{"sieve", "20"}},
		{"sha256", kernels, []string{"sha256", "100"}},
		{"matmul", kernels, []string{"matmul", "20"}},
		{"nbody", kernels, []string{"nbody", "600"}},
		{"fib", kernels, []string{"fib", "36"}},
		{"Go", goProgram, []string{"100"}},
	}
	for _, row := range rows {
		times, err := race(ctx, all, row.code, rounds, filepath.Join(lab.Dir, "stdout"), append([]string{"guest"}, row.args...))
		if err != nil {
			return fmt.Errorf("%s: %w", row.name, err)
		}
		fmt.Fprintf(table, "%-*s\t%d ms", nameWidth, row.name, times[0].Milliseconds())
		for i, t := range times {
			ratio := t.Seconds() / times[0].Seconds()
			logs[i] += math.Log(ratio)
			if i > 0 {
				fmt.Fprintf(table, "\t%.2f", ratio)
			}
		}
		fmt.Fprintln(table, "\t")
	}
	fmt.Fprintf(table, "%-*s", nameWidth, "geometric mean")
	for _, sum := range logs {
		fmt.Fprintf(table, "\t%.2f", math.Exp(sum/float64(len(rows))))
	}
	fmt.Fprintln(table, "\t")
	return table.Flush()
}

// race has each engine run a program in turn, and returns the best of each.
func race(ctx context.Context, all []engine, code []byte, rounds int, stdout string, args []string) (best []time.Duration, err error) {
	loaded := make([]program, len(all))
	defer func() {
		for _, p := range loaded {
			if p != nil {
				err = errors.Join(err, p.close())
			}
		}
	}()
	var want string
	for i, e := range all {
		if loaded[i], err = e.load(ctx, code); err != nil {
			return nil, fmt.Errorf("%s: %w", e.name, err)
		}
		exit, err := loaded[i].run(stdout, args...)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", e.name, err)
		}
		printed, err := os.ReadFile(stdout)
		if err != nil {
			return nil, err
		}
		got := fmt.Sprintf("%s, exit code %d", printed, exit)
		if i == 0 {
			want = got
		}
		if got != want || len(printed) == 0 {
			return nil, fmt.Errorf("%s printed %q, %s %q", e.name, got, all[0].name, want)
		}
	}
	best = make([]time.Duration, len(all))
	for range rounds {
		for i, p := range loaded {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			got, err := timed(func() error { _, err := p.run("", args...); return err })
			if err != nil {
				return nil, fmt.Errorf("%s: %w", all[i].name, err)
			}
			if best[i] == 0 || got.cpu < best[i] {
				best[i] = got.cpu
			}
		}
	}
	return best, nil
}

// cost is what something took.
type cost struct{ wall, cpu time.Duration }

// timed measures what the whole process takes for f.
func timed(f func() error) (c cost, err error) {
	runtime.GC() // what others left behind
	before, err := harness.ProcessorTime()
	if err != nil {
		return c, err
	}
	began := time.Now()
	if err := f(); err != nil {
		return c, err
	}
	c.wall = time.Since(began)
	after, err := harness.ProcessorTime()
	c.cpu = after - before
	return c, err
}
