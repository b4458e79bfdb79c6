// Sign somebody in with the OAuth 2.0 SDK of Nimbus (Java 17 or newer), named in pom.xml beside this file:
// `mvn -q dependency:copy-dependencies -DoutputDirectory=jars`, then
// `ISSUER=… CLIENT_ID=… CLIENT_SECRET=… REDIRECT_URI=… AFTER=… java -cp 'jars/*' sign_in.java`.
// It prints the address to open, and reads the address that the browser came back to.

import static com.nimbusds.jose.JWSAlgorithm.RS256;

import com.nimbusds.oauth2.sdk.*;
import com.nimbusds.oauth2.sdk.auth.ClientSecretBasic;
import com.nimbusds.oauth2.sdk.auth.Secret;
import com.nimbusds.oauth2.sdk.id.ClientID;
import com.nimbusds.oauth2.sdk.id.Issuer;
import com.nimbusds.oauth2.sdk.id.State;
import com.nimbusds.oauth2.sdk.pkce.CodeChallengeMethod;
import com.nimbusds.oauth2.sdk.pkce.CodeVerifier;
import com.nimbusds.openid.connect.sdk.*;
import com.nimbusds.openid.connect.sdk.claims.IDTokenClaimsSet;
import com.nimbusds.openid.connect.sdk.op.OIDCProviderMetadata;
import com.nimbusds.openid.connect.sdk.token.OIDCTokens;
import com.nimbusds.openid.connect.sdk.validators.AccessTokenValidator;
import com.nimbusds.openid.connect.sdk.validators.IDTokenValidator;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.net.URI;

class SignIn {
    static final ClientID CLIENT = new ClientID(System.getenv("CLIENT_ID"));
    static final ClientSecretBasic PROOF =
        new ClientSecretBasic(CLIENT, new Secret(System.getenv("CLIENT_SECRET")));
    static OIDCProviderMetadata provider;

    public static void main(String[] none) throws Exception {
        var issuer = new Issuer(System.getenv("ISSUER"));
        provider = OIDCProviderMetadata.resolve(issuer);
        var back = URI.create(System.getenv("REDIRECT_URI"));
        var verifier = new CodeVerifier();
        var state = new State();
        var nonce = new Nonce();
        var go = new AuthenticationRequest.Builder(
                ResponseType.CODE, new Scope("openid", "profile", "offline_access"), CLIENT, back)
            .endpointURI(provider.getAuthorizationEndpointURI())
            .state(state).nonce(nonce).codeChallenge(verifier, CodeChallengeMethod.S256)
            .build();
        System.out.println("GO " + go.toURI());

        var lines = new BufferedReader(new InputStreamReader(System.in));
        var answer = AuthenticationResponseParser.parse(URI.create(lines.readLine())).toSuccessResponse();
        if (!state.equals(answer.getState()) || !issuer.equals(answer.getIssuer())) {
            throw new SecurityException("not the answer to what was asked");
        }
        var tokens = tokens(new AuthorizationCodeGrant(answer.getAuthorizationCode(), back, verifier));
        verified(tokens, nonce);
        var info = new UserInfoRequest(provider.getUserInfoEndpointURI(), tokens.getBearerAccessToken());
        var user = UserInfoResponse.parse(info.toHTTPRequest().send()).toSuccessResponse().getUserInfo();
        System.out.println("USER " + user.toJSONString());

        lines.readLine(); // later
        tokens = tokens(new RefreshTokenGrant(tokens.getRefreshToken()));
        System.out.println("AGAIN " + verified(tokens, null).getSubject());
        var out = new LogoutRequest(
            provider.getEndSessionEndpointURI(), tokens.getIDToken(), URI.create(System.getenv("AFTER")), null);
        System.out.println("OUT " + out.toURI());
    }

    static OIDCTokens tokens(AuthorizationGrant grant) throws Exception {
        var asked = new TokenRequest.Builder(provider.getTokenEndpointURI(), PROOF, grant).build();
        var answer = OIDCTokenResponseParser.parse(asked.toHTTPRequest().send()).toSuccessResponse();
        return ((OIDCTokenResponse) answer).getOIDCTokens();
    }

    /** The claims of an ID token; keys are asked for anew, since they rotate. */
    static IDTokenClaimsSet verified(OIDCTokens tokens, Nonce nonce) throws Exception {
        var keys = provider.getJWKSetURI().toURL();
        var claims = new IDTokenValidator(provider.getIssuer(), CLIENT, RS256, keys).validate(tokens.getIDToken(), nonce);
        AccessTokenValidator.validate(tokens.getAccessToken(), RS256, claims.getAccessTokenHash());
        return claims;
    }
}
