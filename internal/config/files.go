package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// fileSuffix and the variable of a secret are the variable with the path of the secret's file.
// It is for the mounted secrets of Docker and Kubernetes.
const fileSuffix = "_FILE"

// maxSecretFile bounds the file of a secret, in bytes.
const maxSecretFile = 1 << 20

// FileVariable is the variable that may have the path of a file with the setting's value. Only
// secrets have one; empty means none.
func (s Setting) FileVariable() string {
	if !s.Secret && !s.HasPassword {
		return ""
	}
	return s.Name + fileSuffix
}

// fromFiles reads the files that are named in env and puts their contents into env. It returns
// the problems by setting.
func fromFiles(env map[string]string) map[string]Problem {
	problems := map[string]Problem{}
	for _, s := range settings {
		name := s.FileVariable()
		path := strings.TrimSpace(env[name])
		if name == "" || path == "" {
			continue
		}
		text, err := readSecretFile(path)
		if strings.TrimSpace(env[s.Name]) != "" {
			err = fmt.Errorf("is set, and so is %s: set one of the two", s.Name)
		}
		if err != nil {
			problems[s.Name] = Problem{Name: name, Wrong: err.Error(), Example: "/run/secrets/" + strings.ToLower(s.Name)}
			continue
		}
		env[s.Name] = text
	}
	return problems
}

// readSecretFile reads a secret without the white space around it: editors end files with a
// newline. Its errors contain nothing of the content.
func readSecretFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("cannot be read: %w", err)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxSecretFile+1))
	if err := errors.Join(err, f.Close()); err != nil {
		return "", fmt.Errorf("cannot be read: %w", err)
	}
	text := strings.TrimSpace(string(data))
	switch {
	case len(data) > maxSecretFile:
		return "", fmt.Errorf("names %s, which has more than %d bytes", path, maxSecretFile)
	case text == "":
		return "", fmt.Errorf("names %s, which is empty", path)
	}
	return text, nil
}
