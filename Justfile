# The habits of this project; `just` lists them.
_:
    @just --list

# Serve the sample on a node of its own: README's first command.
up source="./samples/hello" *flags:
    go run . up {{source}} {{flags}}

# All tests: README's second command.
test *flags:
    go test ./... {{flags}}

# Formatting, vet, staticcheck, import arrows.
check:
    test -z "$(gofmt -l $(git ls-files '*.go'))"
    go vet ./...
    go tool staticcheck $(go list ./... | grep -v /openapi$)
    go test ./cmd -run Imports

# The race detector over everything that is ours.
race:
    go test -race -short ./...

# Every figure of docs/bench/, anew.
bench *names:
    docs/bench/run {{names}}

# What a person does by hand, done by a script: the acceptance of docs/ARCHITECTURE.md.
e2e:
    .ci/e2e

# Break a cluster of real processes for a while, and check what clients saw: just chaos 10m 7 -chaos.nodes 5.
chaos for="5m" seed="0" *flags:
    go test ./cmd/chaos -count 1 -run TestChaos -v -timeout 2h -chaos.for {{for}} -chaos.seed {{seed}} {{flags}}

# A few seconds of fuzzing for each target.
fuzz seconds="10":
    .ci/fuzz {{seconds}}

# The code that is generated: the OpenAPI definitions.
generate:
    go generate ./...

# A release build of the binary, for this machine or another: just build linux arm64.
build os="" arch="":
    GOOS={{os}} GOARCH={{arch}} CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o bin/copepod .
