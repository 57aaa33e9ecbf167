package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"copepod-bench-wasmtime/harness"
	"copepod/wasmrt"
)

// nameWidth is that of the names of rows: tabwriter puts cells to the right.
const nameWidth = 36

// starts compares what comes before and after the work: an instance, and a state
// that nobody has used before.
func starts(ctx context.Context, lab *harness.Lab, rounds int) (err error) {
	var columns []*column
	defer func() {
		for _, c := range columns {
			err = errors.Join(err, c.close())
		}
	}()
	for _, language := range []struct {
		name    string
		program func() ([]byte, error)
		reactor func() ([]byte, error)
		repeats int // so that a round takes some 0.2 s
	}{
		{"C", func() ([]byte, error) { return lab.C(ctx, "guests/hello.c") },
			func() ([]byte, error) { return lab.C(ctx, "guests/reactor.c", "-mexec-model=reactor") }, 1000},
		{"Go", func() ([]byte, error) { return lab.Go(ctx, "guests/hello") },
			func() ([]byte, error) { return lab.Go(ctx, "guests/reactor", "-buildmode=c-shared") }, 50},
	} {
		program, err := language.program()
		if err != nil {
			return err
		}
		reactor, err := language.reactor()
		if err != nil {
			return err
		}
		c := &column{name: language.name, repeats: language.repeats}
		columns = append(columns, c)
		if err := c.fill(ctx, lab, program, reactor); err != nil {
			return fmt.Errorf("%s: %w", language.name, err)
		}
	}
	for range rounds {
		for _, c := range columns {
			if err := c.round(ctx); err != nil {
				return err
			}
		}
	}
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Printf("\nµs each, by the clock and of the processor, best of %d\n", rounds)
	fmt.Fprintf(table, "%*s", nameWidth, "")
	for _, c := range columns {
		fmt.Fprintf(table, "\t%s\t%s cpu", c.name, c.name)
	}
	fmt.Fprintln(table, "\t")
	for i, way := range columns[0].ways {
		fmt.Fprintf(table, "%-*s", nameWidth, way.name)
		for _, c := range columns {
			fmt.Fprintf(table, "\t%s\t%s", micros(c.ways[i].best.wall), micros(c.ways[i].best.cpu))
		}
		fmt.Fprintln(table, "\t")
	}
	if err := table.Flush(); err != nil {
		return err
	}
	fmt.Println("–: its memory grows while it runs, so that each use takes a clone")
	return nil
}

func micros(d time.Duration) string {
	if d == 0 {
		return "–"
	}
	us := float64(d.Nanoseconds()) / 1e3
	if us < 100 {
		return fmt.Sprintf("%.1f", us)
	}
	return fmt.Sprintf("%.0f", us)
}

// column is one language's guests.
type column struct {
	name    string
	repeats int
	ways    []*way
	closers []func() error // in the order of what they close
}

// way is one way to run a guest with nothing left behind.
type way struct {
	name string
	once func() error // nil: there is no such way
	best cost
}

func (c *column) add(name string, once func() error) {
	c.ways = append(c.ways, &way{name: name, once: once})
}

func (c *column) later(f func() error) { c.closers = append(c.closers, f) }

func (c *column) close() (err error) {
	for i := len(c.closers) - 1; i >= 0; i-- {
		err = errors.Join(err, c.closers[i]())
	}
	return err
}

// round gives each way a turn.
func (c *column) round(ctx context.Context) error {
	for _, w := range c.ways {
		if err := ctx.Err(); err != nil {
			return err
		}
		if w.once == nil {
			continue
		}
		got, err := timed(func() error {
			for range c.repeats {
				if err := w.once(); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("%s, %s: %w", c.name, w.name, err)
		}
		got.wall, got.cpu = got.wall/time.Duration(c.repeats), got.cpu/time.Duration(c.repeats)
		if w.best.wall == 0 || got.wall < w.best.wall {
			w.best.wall = got.wall
		}
		if w.best.cpu == 0 || got.cpu < w.best.cpu {
			w.best.cpu = got.cpu
		}
	}
	return nil
}

// fill sets up the ways to run a program and a library.
func (c *column) fill(ctx context.Context, lab *harness.Lab, program, reactor []byte) error {
	for _, e := range engines(lab)[:3] { // wasmtime at its best: without epochs
		p, err := e.load(ctx, program)
		if err != nil {
			return fmt.Errorf("%s: %w", e.name, err)
		}
		c.later(p.close)
		c.add("program: "+e.name+", a fresh instance", func() error {
			exit, err := p.run("", "guest")
			if err == nil && exit != 0 {
				err = fmt.Errorf("exit code %d", exit)
			}
			return err
		})
	}
	err := c.image(ctx, lab.Host, "program", program, nil, func(clone *wasmrt.Clone) error {
		if _, exit := clone.Call("_start"); exit != nil && exit.Reason != wasmrt.Completed {
			return fmt.Errorf("%v: %s", exit.Reason, exit.Message)
		}
		return nil
	})
	if err != nil {
		return err
	}
	loaded, err := loadWasmtime(reactor, false)
	if err != nil {
		return fmt.Errorf("wasmtime: %w", err)
	}
	c.later(loaded.close)
	c.add("call: wasmtime, a fresh instance", func() error { return loaded.(*other).call() })
	return c.image(ctx, lab.Host, "call", reactor, []string{"_initialize"}, func(clone *wasmrt.Clone) error {
		results, exit := clone.Call("handle")
		if exit != nil {
			return fmt.Errorf("%v: %s", exit.Reason, exit.Message)
		}
		return first(int32(results[0]))
	})
}

// first checks that a library counted from the beginning.
func first(count int32) error {
	if count != 1 {
		return fmt.Errorf("call %d of an instance that should be new", count)
	}
	return nil
}

// call makes an instance of a library and calls it once.
func (w *other) call() error {
	store, instance, err := w.instantiate("", "guest")
	if err != nil {
		return err
	}
	defer store.Close()
	if _, err := instance.GetFunc(store, "_initialize").Call(store); err != nil {
		return err
	}
	got, err := instance.GetFunc(store, "handle").Call(store)
	if err != nil {
		return err
	}
	return first(got.(int32))
}

// image adds copepod's two ways: a clone of the image for each use, and one clone
// that is put back after each.
func (c *column) image(ctx context.Context, host *wasmrt.Host, what string, code []byte, init []string, work func(*wasmrt.Clone) error) error {
	m, err := host.Load(ctx, code)
	if err != nil {
		return err
	}
	c.later(m.Close)
	image, err := host.Image(ctx, m, wasmrt.ImageConfig{
		Program: wasmrt.Program{Name: what, Args: []string{"guest"}, Stdout: io.Discard}, Init: init,
	})
	if err != nil {
		return err
	}
	c.later(func() error { image.Close(); return nil })
	if !image.Rewindable() {
		return fmt.Errorf("%s cannot be put back", what)
	}
	use := func(clone *wasmrt.Clone) (again bool, err error) {
		err = clone.Begin(ctx, wasmrt.Use{}, nil)
		if err == nil {
			err = work(clone)
		}
		return clone.End(), err
	}
	c.add(what+": copepod, a clone", func() error {
		clone, err := image.Clone(ctx)
		if err != nil {
			return err
		}
		defer clone.Close()
		_, err = use(clone)
		return err
	})
	kept, err := image.Clone(ctx)
	if err != nil {
		return err
	}
	c.later(func() error { kept.Close(); return nil })
	again, err := use(kept)
	if err != nil {
		return err
	}
	rewound := func() error {
		again, err := use(kept)
		if err == nil && !again {
			err = errors.New("not put back")
		}
		return err
	}
	if !again {
		rewound = nil
	}
	c.add(what+": copepod, rewound", rewound)
	return nil
}
