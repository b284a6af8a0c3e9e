package htmltext

// TagLength is tagLength, for tests.
var TagLength = tagLength
