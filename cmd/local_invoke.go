package cmd

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/tetratelabs/wazero/api"

	"copepod/wasmrt"
)

// invoke calls one function of the module with the arguments given, and prints
// what it returns, one result a line. _start is not run; _initialize is, as a
// library has it.
func (a *app) invoke(ctx context.Context, host *wasmrt.Host, module *wasmrt.Module, p wasmrt.Program, function string, args []string) error {
	if err := exported(module, function); err != nil {
		return fmt.Errorf("%s: %w", p.Name, err)
	}
	image, err := host.Image(ctx, module, wasmrt.ImageConfig{Program: p, Init: []string{"_initialize"}})
	if ended, ok := errors.AsType[*wasmrt.ExitError](err); ok {
		return exitOf(ctx, p.Name, ended.Exit)
	}
	if err != nil {
		return interrupted(ctx, err)
	}
	defer image.Close()
	params, results, _ := image.Function(function)
	for _, t := range results {
		if _, ok := printed(t, 0); !ok {
			return fmt.Errorf("%s: %s returns a value of type %s, which cannot be printed", p.Name, function, api.ValueTypeName(t))
		}
	}
	values, err := parseArguments(params, args)
	if err != nil {
		return fmt.Errorf("%s: %s: %w", p.Name, signature(function, params), err)
	}
	clone, err := image.Clone(ctx)
	if err != nil {
		return interrupted(ctx, err)
	}
	err = clone.Begin(ctx, wasmrt.Use{Stdin: p.Stdin}, nil)
	defer clone.End()
	if err != nil {
		return interrupted(ctx, err)
	}
	got, exit := clone.Call(function, values...)
	if exit != nil {
		return exitOf(ctx, p.Name, *exit)
	}
	for n, t := range results {
		line, _ := printed(t, got[n])
		if _, err := fmt.Fprintln(a.out, line); err != nil {
			return err
		}
	}
	return nil
}

// exported refuses a function that the module does not export, and says which it
// does.
func exported(module *wasmrt.Module, function string) error {
	var names []string
	for _, e := range module.Info().Exports {
		if e.Kind != api.ExternTypeFunc {
			continue
		}
		if e.Name == function {
			return nil
		}
		names = append(names, e.Name)
	}
	if len(names) == 0 {
		return fmt.Errorf("no function %q is exported, nor any other", function)
	}
	const most = 20
	if left := len(names) - most; left > 0 {
		names = append(names[:most], fmt.Sprintf("and %d more", left))
	}
	return fmt.Errorf("no function %q is exported; these are: %s", function, strings.Join(names, ", "))
}

func signature(function string, params []api.ValueType) string {
	names := make([]string, len(params))
	for n, t := range params {
		names[n] = api.ValueTypeName(t)
	}
	return function + "(" + strings.Join(names, ", ") + ")"
}

func parseArguments(params []api.ValueType, args []string) ([]uint64, error) {
	if len(args) != len(params) {
		return nil, fmt.Errorf("got %d arguments, want %d", len(args), len(params))
	}
	values := make([]uint64, len(args))
	for n, t := range params {
		var err error
		if values[n], err = parseArgument(t, args[n]); err != nil {
			return nil, fmt.Errorf("argument %d: %w", n+1, err)
		}
	}
	return values, nil
}

// parseArgument reads a number: integers signed or not, in decimal or after 0x;
// floats as Go has them, inf and nan included.
func parseArgument(t api.ValueType, s string) (uint64, error) {
	var v uint64
	var err error
	switch t {
	case api.ValueTypeI32:
		v, err = parseInteger(s, 32)
		v = uint64(uint32(v))
	case api.ValueTypeI64:
		v, err = parseInteger(s, 64)
	case api.ValueTypeF32:
		var f float64
		f, err = strconv.ParseFloat(s, 32)
		v = uint64(math.Float32bits(float32(f)))
	case api.ValueTypeF64:
		var f float64
		f, err = strconv.ParseFloat(s, 64)
		v = math.Float64bits(f)
	default:
		return 0, fmt.Errorf("a value of type %s cannot be given on the command line", api.ValueTypeName(t))
	}
	switch {
	case errors.Is(err, strconv.ErrRange):
		return 0, fmt.Errorf("%q is out of the range of %s", s, api.ValueTypeName(t))
	case err != nil:
		return 0, fmt.Errorf("%q is not a number of type %s", s, api.ValueTypeName(t))
	}
	return v, nil
}

func parseInteger(s string, bits int) (uint64, error) {
	base, digits := 10, s
	if hex, ok := strings.CutPrefix(s, "0x"); ok {
		base, digits = 16, hex
	}
	if strings.HasPrefix(digits, "-") && base == 10 {
		v, err := strconv.ParseInt(digits, base, bits)
		return uint64(v), err
	}
	return strconv.ParseUint(digits, base, bits)
}

// printed is a result as text: integers signed, floats as short as they can be
// read back.
func printed(t api.ValueType, v uint64) (text string, ok bool) {
	switch t {
	case api.ValueTypeI32:
		return strconv.FormatInt(int64(int32(v)), 10), true
	case api.ValueTypeI64:
		return strconv.FormatInt(int64(v), 10), true
	case api.ValueTypeF32:
		return strconv.FormatFloat(float64(math.Float32frombits(uint32(v))), 'g', -1, 32), true
	case api.ValueTypeF64:
		return strconv.FormatFloat(math.Float64frombits(v), 'g', -1, 64), true
	}
	return "", false
}
