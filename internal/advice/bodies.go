package advice

import "strings"

// clipped is the HTML that Gmail shows before it cuts the rest off behind "View
// entire message": about 102 kB. Google does not publish the number; senders have
// measured it for years.
const clipped = 102_000

func (l *letter) bothVersions() verdict {
	switch {
	case l.HTML == "":
		return advise("", "There is only plain text. Add an HTML version to content.html, unless the mail is meant to be plain.")
	case l.TextFromHTML && strings.TrimSpace(l.Text) == "":
		return warn("", "There is only HTML, and no words in it from which a text could be made: programs that show no images show nothing, and spam filters distrust such mail. "+
			"Write what the images say, and add a plain-text version to content.text.")
	case l.TextFromHTML:
		return advise("", "There is only HTML; the plain text was made from it, as text shows. Add your own to content.text if it does not read well.")
	}
	return fine("The mail has both.")
}

func (l *letter) htmlSize() verdict {
	switch n := len(l.HTML); {
	case n == 0:
		return verdict{}
	case n > clipped:
		return warn("", "The HTML has %d bytes. Gmail cuts off what is behind the first %d, an unsubscribe link at the end included: shorten it, and leave out comments and repeated styles.", n, clipped)
	default:
		return fine("The HTML has %d bytes; Gmail shows %d.", n, clipped)
	}
}
