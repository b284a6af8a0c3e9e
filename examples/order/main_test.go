package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/workflow"

	"github.com/postrider/postrider/client"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/examples/internal/mail"
	"github.com/postrider/postrider/examples/internal/mailtest"
)

var order = Order{Account: mail.Account{Customer: "C", From: "shop@acme.test"}, Number: "7", To: "ann@x.test", Phone: "+1555"}

func TestADeliveredConfirmationIsEnough(t *testing.T) {
	e := mailtest.New(t, mailtest.Delivered)
	e.RegisterActivity(SendText)
	said, err := mailtest.Execute[string](t, e, ConfirmOrder, order)
	require.NoError(t, err)
	require.Equal(t, "by mail", said)
	require.Equal(t, "ann@x.test", e.Sent[0].To[0].Email)
	require.Zero(t, e.Sent[0].ExpiresAt, "the same message whenever it is made")
	require.Equal(t, []string{"order-7-confirmation"}, e.IDs)
}

func TestABouncedConfirmationIsFollowedByAText(t *testing.T) {
	e := mailtest.New(t, func(workflow.Context, int, client.Message) email.Status { return email.StatusBounced })
	e.RegisterActivity(SendText)
	e.OnActivity(SendText, mock.Anything, "+1555", "Thank you for order 7.").Return(nil).Once()
	said, err := mailtest.Execute[string](t, e, ConfirmOrder, order)
	require.NoError(t, err)
	require.Equal(t, "by text message: the mail is bounced", said)
	e.AssertExpectations(t)
}

// TestALateConfirmationIsCalledOff has a mail that ends only when it is canceled, and
// one that is delivered all the same.
func TestALateConfirmationIsCalledOff(t *testing.T) {
	for status, want := range map[email.Status]string{email.StatusCanceled: "by text message: the mail is canceled", email.StatusDelivered: "by mail"} {
		e := mailtest.New(t, func(ctx workflow.Context, _ int, _ client.Message) email.Status {
			ctx.Done().Receive(ctx, nil)
			return status
		})
		e.RegisterActivity(SendText)
		said, err := mailtest.Execute[string](t, e, ConfirmOrder, order)
		require.NoError(t, err)
		require.Equal(t, want, said)
		require.Equal(t, time.Hour, e.Now().Sub(mailtest.Start))
	}
}
