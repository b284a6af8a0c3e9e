package api

// links makes the addresses in answers.
type links struct {
	// publicURL is Options.PublicURL.
	publicURL string
	// workflowURL is Options.WorkflowURL, which may be nil.
	workflowURL func(workflowID string) string
}

// location returns the address of a path of the API, for the Location header.
func (l links) location(path string) string { return l.publicURL + path }

// workflow returns the address of a workflow in the Temporal UI, empty if there is no UI.
func (l links) workflow(id string) string {
	if l.workflowURL == nil {
		return ""
	}
	return l.workflowURL(id)
}
