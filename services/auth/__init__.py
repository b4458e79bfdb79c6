"""auth: what proves that it is you. Passwords, challenge answers, sessions, the way back in, and machines' tokens.

Owns one stream for each person's credential; the vault (verifiers, and nothing that says which of them counts); claims'
staged passwords, sessions, recoveries, wrong tries, clients, and what applications hold of people who have signed in.
Reads `person` of the roster and its own `credential`.
Knows no waiting period and opens no claim: it seals what a claim's ticket allows, and claims says whether it is good.

Routes, under /v1/districts/{district}:
    PUT  /claims/{claim_id}/password, /claims/{claim_id}/answers, GET /claims/{claim_id}     the end of a claim
    POST /sessions, GET, DELETE /sessions/current, /sessions, DELETE /accounts/{person_id}/sessions   signing in and out
    PUT  /password                                                                           while signed in
    GET  /activity                                                                           sign-ins by the minute
    POST /recoveries, /recoveries/{recovery_id}/answers, PUT /recoveries/{recovery_id}/password
    GET  /audit                                                                              who signed in, who was not
    POST /accounts/{person_id}/recovery-codes, DELETE /accounts/{person_id}/lockout          the help desk
    GET  /accounts/{person_id}, /roles, PUT, DELETE /accounts/{person_id}/roles/{role}       staff and their roles
    POST /token, /introspect, /revoke, GET /jwks                     machines, and sessions of staff, as the RFCs say
    GET /.well-known/openid-configuration, /authorize, /userinfo, /logout, POST /par         applications
    GET /authorizations/{authorization_id}, POST /authorizations/{authorization_id}/acceptance, and the way back for
    the browser, /authorizations/{authorization_id}/return
    POST /register                                                                           applications by themselves
    GET /saml/metadata, /saml/certificate, /saml/sso, POST /saml/sso                         applications by SAML 2.0
    GET /saml/applications/{client_id}, /saml/authorizations/{authorization_id}/return, POST /saml/answers
and /v1/district-codes/{code}, /v1/operations/audit, /v1/operations/clients, /v1/operations/clients/{client_id},
/v1/operations/clients/{client_id}/rotate, /v1/operations/applications, /v1/operations/applications/{client_id},
/v1/operations/saml-applications, /v1/operations/saml-applications/{client_id}, /v1/operations/registration-tokens,
/v1/operations/registration-tokens/{token_id}, /.well-known/oauth-authorization-server/v1/districts/{district}.

Topics in: roster's (projection `person`, reaction `departures`), claims' (reaction `verdicts`). Topics out: auth's, and
the audit's.
"""
