package api

// links makes the addresses that answers name.
type links struct {
	// publicURL is how the API is reached, without a slash at the end; empty makes a location
	// a path.
	publicURL string
	// workflowURL makes the address of a run in the Temporal UI; nil leaves it out.
	workflowURL func(workflowID string) string
}

// location is the address of a path of the API.
func (l links) location(path string) string { return l.publicURL + path }

// workflow is the address of a run in the Temporal UI, empty where there is none.
func (l links) workflow(id string) string {
	if l.workflowURL == nil {
		return ""
	}
	return l.workflowURL(id)
}
