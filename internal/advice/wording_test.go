package advice_test

import (
	"strings"
	"testing"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/advice"
)

func said(subject, text string) email.Message {
	m := good()
	m.Subject, m.Text, m.HTML = subject, text, ""
	return m
}

func TestSpamWords(t *testing.T) {
	t.Parallel()
	html, made := htmled("<p>To see it,\n<b>click</b> here</p>"), htmled("<p>click here</p>")
	made.TextFromHTML, made.Text = true, "See it"
	examine(t, "spam_words", []row{
		{name: "none", message: good(), level: advice.LevelOK},
		{name: "part of a word", message: said("Casinos of Macao", "doubleclick hereabouts"), level: advice.LevelOK},
		{name: "one in the text", message: said("Hello", "Please\nCLICK   here!"), level: advice.LevelAdvice, detail: "“click here”", where: "please click here!"},
		{name: "one in the HTML", message: html, level: advice.LevelAdvice, detail: "“click here”", where: "to see it, click here"},
		{name: "text made from HTML is read once", message: made, level: advice.LevelOK},
		{name: "three in the text", message: said("Hello", "Act now, no obligation. Click here."), level: advice.LevelWarning, detail: "“act now”, “click here”, “no obligation”", where: "act now"},
		{name: "one in the subject", message: said("Lottery results", "See below"), level: advice.LevelWarning, detail: "“lottery”", where: "/subject"},
		{name: "the second of two is whole", message: said("Hello", "casinos, casino"), level: advice.LevelAdvice, detail: "“casino”", where: "casinos, casino"},
		{name: "many", message: said("Hello", "act now casino lottery viagra get rich no catch free money"), level: advice.LevelWarning, detail: "2 more", where: "act now"},
		{name: "far behind the start", message: said("Hello", strings.Repeat("x ", 200_000)+"casino"), level: advice.LevelOK},
		{name: "characters around are whole", message: said("Hello", strings.Repeat("語", 50)+" a casino "+strings.Repeat("語", 50)), level: advice.LevelAdvice, where: "casino"},
	})
}

func TestPunctuation(t *testing.T) {
	t.Parallel()
	examine(t, "punctuation", []row{
		{name: "one is fine", message: said("Thank you!", "Really? Yes! It costs $5."), level: advice.LevelOK},
		{name: "a row in the subject", message: said("What?!", "Text"), level: advice.LevelWarning, where: "/subject"},
		{name: "two apart in the subject", message: said("Thank you! Bye!", "Text"), level: advice.LevelWarning, where: "/subject"},
		{name: "money in the subject", message: said("Save $$ today", "Text"), level: advice.LevelWarning, where: "/subject"},
		{name: "two in the text", message: said("Hello", "Thank you!!"), level: advice.LevelOK},
		{name: "three in the text", message: said("Hello", "Only today: $$$ for you"), level: advice.LevelAdvice, where: "Only today: $$$ for you"},
		{name: "three in the HTML", message: htmled("<p>Thank you!!!</p>"), level: advice.LevelAdvice, where: "Thank you!!!"},
		{name: "in a script of the HTML", message: htmled("<style>a{}/*!!!*/</style>"), level: advice.LevelOK},
		{name: "full width", message: said("ありがとう！！", "Text"), level: advice.LevelWarning, where: "/subject"},
	})
}

func TestPlaceholders(t *testing.T) {
	t.Parallel()
	examine(t, "placeholders", []row{
		{name: "none", message: said("Hello {you}", "$5 {and} 100 % <b>"), level: advice.LevelOK},
		{name: "in the subject", message: said("Hello {{name}}", "Text"), level: advice.LevelWarning, where: "/subject"},
		{name: "of a flow", message: said("Hello", "Dear ${voipbin.customer.name},"), level: advice.LevelWarning, where: "${voipbin.customer.name}"},
		{name: "in an address", message: htmled(`<a href="https://example.com/?u=*|EMAIL|*">x</a>`), level: advice.LevelWarning, where: "*|EMAIL|*"},
		{name: "a block", message: said("Hello", "{% if x %}"), level: advice.LevelWarning, where: "{% if x %}"},
		{name: "Embedded Ruby", message: said("Hello", "<%= name %>"), level: advice.LevelWarning, where: "<%= name %>"},
		{name: "styles that look like one", message: htmled("<style>@media all{a{color:red}}</style>"), level: advice.LevelOK},
	})
}
