package intake

// What tests look at.
var (
	TagLength = tagLength
	TagsFit   = tagsFit
)

const MaxTagBytes = maxTagBytes
