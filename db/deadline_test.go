package db_test

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"

	"github.com/postrider/postrider/email"
)

// TestDeadlineIsUnavailable: every method returns CodeUnavailable if its deadline ends while it waits
// for Postgres. The API answers that 503 with Retry-After.
func TestDeadlineIsUnavailable(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	contextType, errorType := reflect.TypeFor[context.Context](), reflect.TypeFor[error]()
	stores := map[string]any{"Mail": b.Mail, "Accounts": b.Accounts, "Webhooks": b.Webhooks, "Files": b.Files, "Mailboxes": b.Mailboxes, "DB": b.DB}
	var others []string
	for name, store := range stores {
		ended := 0
		v := reflect.ValueOf(store)
		for i := range v.NumMethod() {
			method, called := v.Method(i), name+"."+v.Type().Method(i).Name
			ft := method.Type()
			if ft.NumIn() == 0 || ft.In(0) != contextType || ft.NumOut() == 0 || ft.Out(ft.NumOut()-1) != errorType {
				continue
			}
			args, inTx := []reflect.Value{reflect.ValueOf(ctx)}, false
			for n := 1; n < ft.NumIn(); n++ {
				args, inTx = append(args, sample(ft.In(n))), inTx || ft.In(n) == reflect.TypeFor[bun.Tx]()
			}
			if inTx { // part of another method, which translates its error
				continue
			}
			call := method.Call
			if ft.IsVariadic() {
				call = method.CallSlice
			}
			results := call(args)
			err, _ := results[len(results)-1].Interface().(error)
			if errors.Is(err, context.DeadlineExceeded) {
				ended++
				if email.FailureCode(err) != email.CodeUnavailable {
					others = append(others, called+": "+err.Error())
				}
			}
		}
		require.NotZero(t, ended, "%s: no method reaches Postgres", name)
	}
	require.Empty(t, others)
}

// sample is an argument with which most methods reach Postgres: texts are ids, and lists have an
// element.
func sample(of reflect.Type) reflect.Value {
	v := reflect.New(of).Elem()
	switch of.Kind() {
	case reflect.String:
		v.SetString(uuid.NewString())
	case reflect.Int, reflect.Int64:
		v.SetInt(1)
	case reflect.Interface:
		if reader := reflect.ValueOf(strings.NewReader("content")); reader.CanConvert(of) {
			v.Set(reader)
		}
	case reflect.Pointer:
		v.Set(reflect.New(of.Elem()))
	case reflect.Slice:
		v = reflect.Append(v, sample(of.Elem()))
	case reflect.Struct:
		for i := range of.NumField() {
			if f := of.Field(i); f.IsExported() && f.Type.Kind() == reflect.String {
				v.Field(i).Set(sample(f.Type))
			}
		}
	}
	return v
}
