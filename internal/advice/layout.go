package advice

import "strings"

func (l *letter) inlineCSS() verdict {
	switch f := l.page; {
	case l.HTML == "":
		return verdict{}
	case f.stylesheets.count > 0:
		return warn(f.stylesheets.where, "%s (%s): mail programs load none. Put the styles into the elements' style attributes.",
			times(f.stylesheets.count, "external stylesheet"), strings.Join(f.stylesheets.kinds, ", "))
	case f.rules.count > 0:
		return advise(f.rules.where, "%s in <style>, which some programs drop, Gmail's apps with other providers' accounts among them. Put what matters into style attributes.",
			times(f.rules.count, "rule"))
	}
	return fine("Nothing depends on a stylesheet.")
}

func (l *letter) activeContent() verdict {
	f := l.page.active
	switch {
	case l.HTML == "":
		return verdict{}
	case f.count > 0:
		return warn(f.where, "%s (%s). Mail programs remove them, and servers refuse mail for them: lead to a web page instead.", times(f.count, "active element"), strings.Join(f.kinds, ", "))
	}
	return fine("There are none.")
}

func (l *letter) layout() verdict {
	f := l.page.layout
	switch {
	case l.HTML == "":
		return verdict{}
	case f.count > 0:
		return warn(f.where, "%s of layout by %s. Outlook for Windows ignores them, Gmail some: use tables, and look at the mail in several programs.", times(f.count, "place"), strings.Join(f.kinds, ", "))
	}
	return fine("Neither float, flex, grid nor position is used.")
}
