package dispatch

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/sdk/client"

	"github.com/postrider/postrider/email"
)

// searchAttributes are a fixed budget: a SQL visibility store has ten keywords
// and three keyword lists for a whole namespace.
func searchAttributes() map[string]enumspb.IndexedValueType {
	return map[string]enumspb.IndexedValueType{
		email.SearchAttributeStatus:           enumspb.INDEXED_VALUE_TYPE_KEYWORD,
		email.SearchAttributeCustomerID:       enumspb.INDEXED_VALUE_TYPE_KEYWORD,
		email.SearchAttributeStream:           enumspb.INDEXED_VALUE_TYPE_KEYWORD,
		email.SearchAttributeRelay:            enumspb.INDEXED_VALUE_TYPE_KEYWORD,
		email.SearchAttributeRecipientDomains: enumspb.INDEXED_VALUE_TYPE_KEYWORD_LIST,
	}
}

// missingAttributes are those the namespace does not know yet. One of another
// type is an error: only an operator can mend it.
func missingAttributes(ctx context.Context, c client.Client, namespace string) (map[string]enumspb.IndexedValueType, error) {
	have, err := c.OperatorService().ListSearchAttributes(ctx, &operatorservice.ListSearchAttributesRequest{Namespace: namespace})
	if err != nil {
		return nil, fmt.Errorf("list search attributes: %w", err)
	}
	missing := searchAttributes()
	for name, want := range searchAttributes() {
		got, ok := have.GetCustomAttributes()[name]
		if !ok {
			continue
		}
		if got != want {
			return nil, fmt.Errorf("search attribute %s is a %s, need a %s: remove it with `temporal operator search-attribute remove --name %s`", name, got, want, name)
		}
		delete(missing, name)
	}
	return missing, nil
}

// EnsureSearchAttributes creates what the namespace lacks of our search
// attributes. Calling it again is harmless.
func EnsureSearchAttributes(ctx context.Context, c client.Client, namespace string) error {
	missing, err := missingAttributes(ctx, c, namespace)
	if err != nil || len(missing) == 0 {
		return err
	}
	_, err = c.OperatorService().AddSearchAttributes(ctx, &operatorservice.AddSearchAttributesRequest{Namespace: namespace, SearchAttributes: missing})
	if err != nil {
		return fmt.Errorf("add search attributes: %w", err)
	}
	return nil
}

// attributesPoll is how often a worker looks whether it may begin.
const attributesPoll = 2 * time.Second

// AwaitSearchAttributes waits until Temporal answers and knows our search
// attributes: a run that sets an unknown one would stick.
func AwaitSearchAttributes(ctx context.Context, c client.Client, namespace string, log *slog.Logger) error {
	said := ""
	for {
		callCtx, cancel := context.WithTimeout(ctx, startTimeout)
		missing, err := missingAttributes(callCtx, c, namespace)
		cancel()
		if err == nil {
			err = attributesError(missing)
		}
		if err == nil {
			return nil
		}
		why := err.Error()
		if why != said && ctx.Err() == nil {
			log.Warn("worker.waiting", "for", "Temporal", "reason", why)
			said = why
		}
		select {
		case <-time.After(attributesPoll):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
