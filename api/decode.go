package api

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/gin-gonic/gin"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/intake"
)

// decode reads a small JSON object strictly: unknown and duplicate members and
// wrong types are refused with a pointer. What the request changes by it may wait for a row's
// lock: it has a connection's share afterwards.
func decode(c *gin.Context, into any) error {
	body, err := readBody(c, maxSmallBody, 0)
	if err != nil {
		return err
	}
	if err := intake.Unmarshal(body, into); err != nil {
		return err
	}
	if err := noNUL(body); err != nil {
		return err
	}
	return holdChange(c)
}

// choices refuses a list of more than there is to choose from: some would be named twice.
func choices(pointer string, given, known int) error {
	if given > known {
		return invalid(pointer, "too_many", fmt.Sprintf("there are only %d to choose from: name each once", known))
	}
	return nil
}

// noNUL refuses texts that Postgres takes for none. The body is JSON.
func noNUL(body []byte) error {
	if !bytes.Contains(body, []byte(`\u0000`)) {
		return nil
	}
	d := jsontext.NewDecoder(bytes.NewReader(body))
	for {
		t, err := d.ReadToken()
		if err != nil {
			return nil // the end
		}
		if t.Kind() == '"' && strings.Contains(t.String(), "\x00") {
			return invalid(string(d.StackPointer()), "control_character", "remove the NUL")
		}
	}
}

// pathID reads a UUID from the path. Anything else names nothing we have.
func pathID(c *gin.Context, name, what string) (string, error) {
	id, err := uuid.Parse(c.Param(name))
	if err != nil {
		return "", email.Fail(email.CodeNotFound, "there is no such %s", what)
	}
	return id.String(), nil
}
