package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"

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
	require.Equal(t, mailtest.Start.Add(time.Hour), e.Sent[0].ExpiresAt)
	require.Equal(t, []string{"order-7-confirmation"}, e.IDs)
}

func TestABouncedConfirmationIsFollowedByAText(t *testing.T) {
	e := mailtest.New(t, func(int, client.Message) email.Status { return email.StatusBounced })
	e.RegisterActivity(SendText)
	e.OnActivity(SendText, mock.Anything, "+1555", "Thank you for order 7.").Return(nil).Once()
	said, err := mailtest.Execute[string](t, e, ConfirmOrder, order)
	require.NoError(t, err)
	require.Equal(t, "by text message: the mail is bounced", said)
	e.AssertExpectations(t)
}
