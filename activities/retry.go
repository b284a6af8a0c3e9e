package activities

import (
	"context"
	"time"
)

// journalRetry is the pause between two tries to write the end of an attempt.
const journalRetry = 250 * time.Millisecond

// relayWait is the pause before mail asks for a relay again. It is the relay's own backoff, or
// expiresIn if the mail expires sooner: the gate ends the mail then. expiresIn is 0 if it does not
// expire. The pause is up to 1 ms longer, because timers may drop parts of a millisecond.
func relayWait(backoff, expiresIn time.Duration) time.Duration {
	wait := max(backoff, time.Second)
	if expiresIn <= 0 {
		return wait
	}
	return min(wait, expiresIn.Truncate(time.Millisecond)+time.Millisecond)
}

// watchedWait is the shortest wait of an e-mail that is woken when its relay works again. The longest
// is twice that. So 10,000 e-mails that wait for a relay ask about 20 times a minute.
const watchedWait = 6 * time.Hour

// retryUntil calls try until it returns true, with a pause of every between two calls. It calls
// try at least once. It returns false if ctx ends in a pause.
func retryUntil(ctx context.Context, every time.Duration, try func() bool) bool {
	for !try() {
		select {
		case <-time.After(every):
		case <-ctx.Done():
			return false
		}
	}
	return true
}
