package htmltext

// What tests look at.
var TagLength = tagLength
