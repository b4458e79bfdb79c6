"""What others build on stays true: schemas agree with the code, and no committed schema is broken."""
