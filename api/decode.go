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

// decode reads a JSON object of at most maxSmallBody bytes. It refuses unknown and duplicate
// members and wrong types, with a JSON Pointer. The change that follows may wait for a row lock,
// so decode also reserves a connection as reserveChange does.
func decode(c *gin.Context, into any) error { return decodeUpTo(c, maxSmallBody, into) }

// decodeUpTo is decode with another limit of the body, in bytes.
func decodeUpTo(c *gin.Context, limit int64, into any) error {
	body, err := readBody(c, limit, 0)
	if err != nil {
		return err
	}
	if err := intake.Unmarshal(body, into); err != nil {
		return err
	}
	if err := noNUL(body); err != nil {
		return err
	}
	return reserveChange(c)
}

// choices refuses a list with more values than there are known ones: some occur twice.
func choices(pointer string, given, known int) error {
	if given > known {
		return invalid(pointer, "too_many", fmt.Sprintf("there are only %d to choose from: name each once", known))
	}
	return nil
}

// noNUL refuses a JSON body with a NUL in a string: Postgres stores none in text.
func noNUL(body []byte) error {
	if !bytes.Contains(body, []byte(`\u0000`)) {
		return nil
	}
	d := jsontext.NewDecoder(bytes.NewReader(body))
	for {
		t, err := d.ReadToken()
		if err != nil {
			return nil // io.EOF: the body is valid JSON
		}
		if t.Kind() == '"' && strings.Contains(t.String(), "\x00") {
			return invalid(string(d.StackPointer()), "control_character", "remove the NUL")
		}
	}
}

// pathID reads a UUID from the path. It answers 404 for anything else. what is the noun of the
// answer, as in "there is no such e-mail".
func pathID(c *gin.Context, name, what string) (string, error) {
	id, err := uuid.Parse(c.Param(name))
	if err != nil {
		return "", email.Fail(email.CodeNotFound, "there is no such %s", what)
	}
	return id.String(), nil
}
