// Package build turns a source folder into a WebAssembly module by calling the
// toolchain that the folder is written for: Go, C or Rust. It knows compilers and
// their flags; it never learns what happens to the module.
//
//	wasm, err := build.Module(ctx, "./samples/hello", os.Stderr)
package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Language is what a folder is written in.
type Language string

// The languages that Module builds.
const (
	Go   Language = "Go"
	C    Language = "C"
	Rust Language = "Rust"
	Wasm Language = "WebAssembly" // built already
)

const maxModule = 256 << 20 // bytes; what the image store takes

// Module builds the source at path and returns the module. path is a folder, or
// a ready .wasm file. What the compiler prints goes to out.
func Module(ctx context.Context, path string, out io.Writer) ([]byte, error) {
	lang, err := Detect(path)
	if err != nil {
		return nil, err
	}
	if lang == Wasm {
		return read(path)
	}
	dir, err := os.MkdirTemp("", "copepod-build-*")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	module := filepath.Join(dir, "module.wasm")
	cmd, err := command(ctx, lang, path, module)
	if err != nil {
		return nil, err
	}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Run(); err != nil {
		var missing *exec.Error
		if errors.As(err, &missing) {
			return nil, fmt.Errorf("build %s: %s is not installed; %s", path, missing.Name, install[lang])
		}
		return nil, fmt.Errorf("build %s: %s: %w", path, filepath.Base(cmd.Path), err)
	}
	return read(module)
}

// Detect says what path is written in, by the files that are there.
func Detect(path string) (Language, error) {
	fi, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("source %s: there is no such file or folder", path)
	}
	if err != nil {
		return "", fmt.Errorf("source: %w", err)
	}
	if !fi.IsDir() {
		if filepath.Ext(path) != ".wasm" {
			return "", fmt.Errorf("source %s: want a folder or a .wasm file", path)
		}
		return Wasm, nil
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return "", fmt.Errorf("source: %w", err)
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	switch {
	case slices.Contains(names, "Cargo.toml"), slices.Contains(names, "main.rs"), exists(filepath.Join(path, "src", "main.rs")):
		return Rust, nil
	case slices.ContainsFunc(names, func(n string) bool { return strings.HasSuffix(n, ".go") }):
		return Go, nil
	case slices.ContainsFunc(names, func(n string) bool { return strings.HasSuffix(n, ".c") }):
		return C, nil
	}
	return "", fmt.Errorf("source %s: found no .go file, no .c file, no Cargo.toml or main.rs", path)
}

// Name is what the module of a source is called: the folder's name, or the
// file's without its ending, as a DNS label.
func Name(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	base := strings.ToLower(strings.TrimSuffix(filepath.Base(abs), ".wasm"))
	label := strings.Trim(strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, base), "-")
	if len(label) > 63 {
		label = strings.TrimRight(label[:63], "-")
	}
	if label == "" || label[0] >= '0' && label[0] <= '9' {
		label = strings.TrimRight("app-"+label, "-")
	}
	return label, nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func read(path string) ([]byte, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if fi.Size() > maxModule {
		return nil, fmt.Errorf("module %s: %d bytes, want at most %d", path, fi.Size(), maxModule)
	}
	return os.ReadFile(path)
}
