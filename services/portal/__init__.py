"""portal: the pages on which pupils claim, sign in and get back in, and on which the help desk sets things right.

HTTP alone, on the public interface of roster, claims and auth, so that a district can throw it away and write its own.
It has no store: whatever it must remember of a browser is in that browser's sealed cookies, so any number of
processes serve the same browser, and a restart loses nothing. It repeats no rule: lengths, questions, texts and colours
come from the district's policy, and what is refused is refused by the services.

Pages, under /{district}:
    /                     who is signed in and what for; otherwise the first screen of signing in
    /claim, …             taking possession of an account, in three steps
    /sign-in, /sign-out   two screens, and the way out; /sign-on for the district's applications
    /forgot, …            the way back in
    /account, …           password, where I am signed in
    /desk, …              the help desk, for staff with a role
    /operations, …        those who run Homeroom
and /health/live, /health/ready, /metrics, / (which leads to a district).
"""
