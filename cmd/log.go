package cmd

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/go-logr/logr"
	"gopkg.in/natefinch/lumberjack.v2"
	"k8s.io/klog/v2"

	"copepod/cmd/config"
)

// openLog opens Copepod's own log, and sends the Kubernetes libraries' there too.
func openLog(cfg config.Config) (*slog.Logger, func(), error) {
	dir := filepath.Join(cfg.DataDir, "logs")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, nil, fmt.Errorf("log: %w", err)
	}
	file := &lumberjack.Logger{Filename: filepath.Join(dir, "copepod.log"), MaxSize: cfg.Logs.MaxMiB, MaxBackups: cfg.Logs.Keep}
	var level slog.Level
	if err := level.UnmarshalText([]byte(cfg.Logs.Level)); err != nil {
		return nil, nil, fmt.Errorf("setting logs.level: %w", err)
	}
	log := slog.New(slog.NewTextHandler(file, &slog.HandlerOptions{Level: level}))
	klog.SetLogger(logr.FromSlogHandler(log.Handler()))
	return log, func() { _ = file.Close() }, nil
}
