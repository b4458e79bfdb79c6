"""claims: who may take possession of an account, and when; what ends a claim; and the help desk's resets.

Owns one stream for each person's account, the read models `admission` (the roster's pupils with their waiting period)
and `account`, and the reset batches. Knows no password and no session: those are auth's.

Routes, under /v1/districts/{district}:
    GET  /policy, /logo                           what a front end must know of the district's rules; its picture
    POST /claims, GET /claims/{claim_id}          begin to claim; how a claim stands
    GET  /accounts?username=, /accounts/{person_id}            what the help desk sees
    GET  /directory, /unclaimed, /activity        whom it looks for, who has not claimed, how many claim by the minute
    PUT, DELETE /accounts/{person_id}/waiver                   the wait of one pupil
    PUT, DELETE /accounts/{person_id}/suspension               an account that the desk closes, and opens again
    POST /accounts/{person_id}/resets                          one reset, a batch of one
    GET, POST /reset-batches, GET, DELETE /reset-batches/{batch_id}, POST /reset-batches/{batch_id}/approval
                                                  of pasted lines, a school, all students

Topics in: roster's (projection `admission`, reaction `departures`), auth's (reaction `credentials`). Topic out:
claims'.
"""
