// Sign somebody in with go-oidc: `go mod init example.org/sign-in && go mod tidy`, then
// `ISSUER=… CLIENT_ID=… CLIENT_SECRET=… REDIRECT_URI=… AFTER=… go run sign_in.go`.
// It prints the address to open, and reads the address that the browser came back to.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net/url"
	"os"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}

func main() {
	ctx := context.Background()
	provider := must(oidc.NewProvider(ctx, os.Getenv("ISSUER")))
	config := oauth2.Config{
		ClientID: os.Getenv("CLIENT_ID"), ClientSecret: os.Getenv("CLIENT_SECRET"), RedirectURL: os.Getenv("REDIRECT_URI"),
		Endpoint: provider.Endpoint(), Scopes: []string{oidc.ScopeOpenID, "profile", oidc.ScopeOfflineAccess},
	}
	verifier := provider.Verifier(&oidc.Config{ClientID: config.ClientID})
	proof, state, nonce := oauth2.GenerateVerifier(), oauth2.GenerateVerifier(), oauth2.GenerateVerifier()
	fmt.Println("GO", config.AuthCodeURL(state, oauth2.S256ChallengeOption(proof), oidc.Nonce(nonce)))

	lines := bufio.NewScanner(os.Stdin)
	lines.Scan() // the address that the browser came back to
	answer := must(url.Parse(lines.Text())).Query()
	if answer.Get("state") != state || answer.Get("iss") != os.Getenv("ISSUER") {
		log.Fatal("not the answer to what was asked")
	}
	token := must(config.Exchange(ctx, answer.Get("code"), oauth2.VerifierOption(proof)))
	raw := token.Extra("id_token").(string)
	idToken := must(verifier.Verify(ctx, raw))
	if idToken.Nonce != nonce || idToken.VerifyAccessToken(token.AccessToken) != nil {
		log.Fatal("not the ID token that was asked for")
	}
	info := must(provider.UserInfo(ctx, config.TokenSource(ctx, token)))
	var claims map[string]any
	if err := info.Claims(&claims); err != nil {
		log.Fatal(err)
	}
	fmt.Println("USER", string(must(json.Marshal(claims))))

	lines.Scan() // later
	renewed := must(config.TokenSource(ctx, &oauth2.Token{RefreshToken: token.RefreshToken}).Token())
	again := must(verifier.Verify(ctx, renewed.Extra("id_token").(string)))
	fmt.Println("AGAIN", again.Subject)

	var discovered struct {
		EndSession string `json:"end_session_endpoint"`
	}
	if err := provider.Claims(&discovered); err != nil {
		log.Fatal(err)
	}
	out := url.Values{"id_token_hint": {renewed.Extra("id_token").(string)}, "post_logout_redirect_uri": {os.Getenv("AFTER")}}
	fmt.Println("OUT", discovered.EndSession+"?"+out.Encode())
}
