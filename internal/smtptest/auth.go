package smtptest

import (
	"crypto/hmac"
	"crypto/md5" // CRAM-MD5 is made of it
	"crypto/pbkdf2"
	"crypto/sha1" // and SCRAM-SHA-1 of this
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"hash"
	"strings"
)

// auth answers AUTH (RFC 4954).
func (c *talk) auth(rest string) bool {
	mechanism, initial, _ := strings.Cut(rest, " ")
	var authentic bool
	var err error
	switch strings.ToUpper(mechanism) {
	case "PLAIN":
		authentic = unbase64(initial) == "\x00"+c.User+"\x00"+c.Password
	case "LOGIN":
		authentic, err = c.login()
	case "CRAM-MD5":
		authentic, err = c.cramMD5()
	case "XOAUTH2":
		authentic = unbase64(initial) == "user="+c.User+"\x01auth=Bearer "+c.Password+"\x01\x01"
		if !authentic {
			_, err = c.challenge(`{"status":"401"}`)
		}
	case "SCRAM-SHA-1":
		authentic, err = c.scram(unbase64(initial), sha1.New)
	case "SCRAM-SHA-256":
		authentic, err = c.scram(unbase64(initial), sha256.New)
	default:
		return c.say("504 5.5.4 no such mechanism")
	}
	if err != nil {
		return false
	}
	if !authentic {
		return c.say("535 5.7.8 wrong credentials")
	}
	c.user = c.User
	return c.say("235 2.7.0 welcome")
}

// challenge sends one and reads the answer.
func (c *talk) challenge(text string) (string, error) {
	if err := c.text.PrintfLine("334 %s", base64.StdEncoding.EncodeToString([]byte(text))); err != nil {
		return "", err
	}
	line, err := c.text.ReadLine()
	return unbase64(line), err
}

func (c *talk) login() (bool, error) {
	user, err := c.challenge("Username:")
	if err != nil {
		return false, err
	}
	password, err := c.challenge("Password:")
	return user == c.User && password == c.Password, err
}

// cramMD5 follows RFC 2195.
func (c *talk) cramMD5() (bool, error) {
	const challenge = "<1896.697170952@peer.test>"
	answer, err := c.challenge(challenge)
	return answer == c.User+" "+hex.EncodeToString(sum(md5.New, []byte(c.Password), challenge)), err
}

// scram follows RFC 5802 without channel binding.
func (c *talk) scram(first string, h func() hash.Hash) (bool, error) {
	const salt, rounds = "sixteen bytes...", 4096
	if first == "" { // the initial response is optional
		var err error
		if first, err = c.challenge(""); err != nil {
			return false, err
		}
	}
	bare := strings.TrimPrefix(first, "n,,")
	user, nonce, _ := strings.Cut(strings.TrimPrefix(bare, "n="), ",r=")
	nonce += "server"
	serverFirst := fmt.Sprintf("r=%s,s=%s,i=%d", nonce, base64.StdEncoding.EncodeToString([]byte(salt)), rounds)
	final, err := c.challenge(serverFirst)
	if err != nil {
		return false, err
	}
	withoutProof, proof, _ := strings.Cut(final, ",p=")
	salted, err := pbkdf2.Key(h, c.Password, []byte(salt), rounds, h().Size())
	if err != nil {
		return false, err
	}
	message := bare + "," + serverFirst + "," + withoutProof
	clientKey := sum(h, salted, "Client Key")
	stored := h()
	stored.Write(clientKey)
	signature := sum(h, stored.Sum(nil), message)
	for i := range signature {
		signature[i] ^= clientKey[i]
	}
	if user != c.User || withoutProof != "c=biws,r="+nonce || unbase64(proof) != string(signature) {
		return false, nil
	}
	_, err = c.challenge("v=" + base64.StdEncoding.EncodeToString(sum(h, sum(h, salted, "Server Key"), message)))
	return true, err
}

func sum(h func() hash.Hash, key []byte, text string) []byte {
	m := hmac.New(h, key)
	m.Write([]byte(text))
	return m.Sum(nil)
}

func unbase64(s string) string {
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return ""
	}
	return string(b)
}
