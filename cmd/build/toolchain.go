package build

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// install says how to get each toolchain, on the systems that most people have.
var install = map[Language]string{
	Go:   "get Go from https://go.dev/dl",
	C:    "on Debian: apt-get install clang lld wasi-libc libclang-rt-dev-wasm32; elsewhere set WASI_SDK_PATH to a wasi-sdk",
	Rust: "on Debian: apt-get install rustc libstd-rust-dev-wasm32; elsewhere: rustup target add wasm32-wasip1",
}

// command is the compiler's call for a folder.
func command(ctx context.Context, lang Language, dir, module string) (*exec.Cmd, error) {
	switch lang {
	case Go:
		// trimpath and no VCS stamp: the same source gives the same module.
		args := []string{"build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", module}
		if library, err := says(dir, "*.go", exported); err != nil {
			return nil, err
		} else if library {
			args = append(args, "-buildmode=c-shared")
		}
		cmd := exec.CommandContext(ctx, "go", append(args, ".")...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0")
		return cmd, nil
	case C:
		sources, err := filepath.Glob(filepath.Join(dir, "*.c"))
		if err != nil {
			return nil, err
		}
		slices.Sort(sources)
		compiler, args := "clang", []string{"--target=wasm32-wasi"}
		if sdk := os.Getenv("WASI_SDK_PATH"); sdk != "" {
			compiler, args = filepath.Join(sdk, "bin", "clang"), []string{"--sysroot=" + filepath.Join(sdk, "share", "wasi-sysroot")}
		}
		if program, err := says(dir, "*.c", mainFunction); err != nil {
			return nil, err
		} else if !program {
			args = append(args, "-mexec-model=reactor")
		}
		return exec.CommandContext(ctx, compiler, append(append(args, "-O2", "-s", "-o", module), sources...)...), nil
	case Rust:
		main, err := rustMain(dir)
		if err != nil {
			return nil, err
		}
		rustc, target, err := rustTarget(ctx)
		if err != nil {
			return nil, err
		}
		return exec.CommandContext(ctx, rustc, "--edition=2021", "--target", target, "-O", "-C", "strip=symbols", "-o", module, main), nil
	}
	return nil, fmt.Errorf("no toolchain for %s", lang)
}

// What makes a folder a library, which the host calls into, instead of a program,
// which runs once: in Go a function that is exported, in C the lack of a main.
var (
	exported     = regexp.MustCompile(`(?m)^//go:wasmexport `)
	mainFunction = regexp.MustCompile(`\bmain\s*\(`)
)

// says reports whether a source of the folder holds what is looked for. Tests do
// not count.
func says(dir, pattern string, what *regexp.Regexp) (bool, error) {
	sources, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil {
		return false, err
	}
	for _, path := range sources {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return false, fmt.Errorf("source: %w", err)
		}
		if what.Match(text) {
			return true, nil
		}
	}
	return false, nil
}

// rustMain finds the root of a crate that rustc can build by itself. Crates with
// dependencies are cargo's to build.
func rustMain(dir string) (string, error) {
	if cargo, err := os.ReadFile(filepath.Join(dir, "Cargo.toml")); err == nil && strings.Contains(string(cargo), "[dependencies]") {
		return "", fmt.Errorf("build %s: the crate has dependencies; run cargo build --release --target wasm32-wasip1 and give the .wasm", dir)
	}
	for _, name := range []string{"src/main.rs", "main.rs"} {
		path := filepath.Join(dir, name)
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("build %s: found no src/main.rs", dir)
}

// rustTarget finds a rustc that has the WASI target: several may be installed,
// and the target's name changed from wasm32-wasi to wasm32-wasip1 in Rust 1.78.
func rustTarget(ctx context.Context) (rustc, target string, err error) {
	for _, rustc := range []string{"rustc", "/usr/bin/rustc"} {
		for _, target := range []string{"wasm32-wasip1", "wasm32-wasi"} {
			lib, err := exec.CommandContext(ctx, rustc, "--print", "target-libdir", "--target", target).Output()
			if err != nil {
				continue
			}
			if found, _ := filepath.Glob(filepath.Join(strings.TrimSpace(string(lib)), "libstd-*.rlib")); len(found) > 0 {
				return rustc, target, nil
			}
		}
	}
	return "", "", fmt.Errorf("build: no rustc with the WASI target is installed; %s", install[Rust])
}
