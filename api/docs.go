package api

import (
	_ "embed"
	"net/http"
	"sync"

	"github.com/gin-gonic/gin"

	"github.com/postrider/postrider/internal/apidoc"
)

// openapiDocument describes all routes. Tests compare it with the route table, and each answer
// with it.
//
//go:embed openapi.yaml
var openapiDocument []byte

// docHandlers answers /docs, /openapi.json and /openapi.yaml.
type docHandlers struct {
	description func() (description, error)
	respond     responder
}

// description is the OpenAPI document in the forms that are served.
type description struct {
	json, yaml, page []byte
	// policy is the page's Content-Security-Policy.
	policy string
}

// describe returns a function that renders the description at its first call.
func describe(publicURL string) func() (description, error) {
	return sync.OnceValues(func() (out description, err error) {
		doc, err := apidoc.Parse(openapiDocument)
		if err != nil {
			return out, err
		}
		if publicURL != "" {
			if err := doc.SetServer(publicURL); err != nil {
				return out, err
			}
		}
		if out.json, err = doc.JSON(); err != nil {
			return out, err
		}
		if out.yaml, err = doc.YAML(); err != nil {
			return out, err
		}
		out.page, out.policy, err = doc.Page()
		return out, err
	})
}

// form returns a handler that answers with one form of the description.
func (h *docHandlers) form(contentType string, form func(description) []byte) gin.HandlerFunc {
	return func(c *gin.Context) {
		d, err := h.description()
		if err != nil {
			h.respond.problem(c, err)
			return
		}
		c.Data(http.StatusOK, contentType, form(d))
	}
}

func (h *docHandlers) openapiJSON() gin.HandlerFunc {
	return h.form("application/json", func(d description) []byte { return d.json })
}

func (h *docHandlers) openapiYAML() gin.HandlerFunc {
	return h.form("application/yaml", func(d description) []byte { return d.yaml })
}

// page answers with an HTML page whose Content-Security-Policy forbids it to load anything.
func (h *docHandlers) page(c *gin.Context) {
	d, err := h.description()
	if err != nil {
		h.respond.problem(c, err)
		return
	}
	c.Header("Content-Security-Policy", d.policy)
	c.Header("X-Content-Type-Options", "nosniff")
	c.Header("Referrer-Policy", "no-referrer")
	c.Data(http.StatusOK, "text/html; charset=utf-8", d.page)
}
