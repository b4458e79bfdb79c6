"""roster: who pupils and staff are, as their district says; the only service that holds names and numbers as facts.

It owns the mapping of (district, source_id) to the person's random UUID, which is the person's stream everywhere, the
events about them, what became of every event that a district published, and the read model `person` for the help desk.

Routes, below /v1/districts/{district}:
  POST /enrollments[?baseline]    a CloudEvent, or a batch of them, from the district's systems
  GET  /enrollments/{event_id}    what became of an event, also of one that Kafka brought
  GET  /dead-letters[/{id}]       what the district's topic brought and could not be taken
  POST /imports?dry_run&baseline  a OneRoster export of the SIS, as a zip
  POST /imports/pulls?dry_run&full the same, pulled from the SIS over REST as the policy says where
  GET  /imports[/{id}]            the last ones; how far one is, and what it means in figures
  GET  /imports/{id}/changes      what it means person by person
  GET  /imports/{id}/problems     what is wrong with rows of its files
  POST /imports/{id}/approval     a second person lets one go on that takes many away
  DELETE /imports/{id}            stop it where it is
  GET  /persons?number=           everybody under a number, with conflicts
  GET  /persons/{person_id}       one person, with their classes
  GET  /persons/{person_id}/pupils  whom a teacher teaches today
  GET  /classes/{class_id}        who teaches a class, who is in it

Topics in:  <prefix>.enrollments.<district>.v1, one for each district: StudentEnrolled, StudentCorrected,
            StudentWithdrawn, StaffEmployed, StaffCorrected, StaffLeft, EnrollmentVoided, ClassAssigned,
            ClassUnassigned, PersonsMerged, PersonsSplit (contracts/ingress/), by key source_id; what it cannot take
            becomes a dead letter, and only that person waits.
Topic out:  <prefix>.roster.v1: StudentEnrolled, StaffEmployed, NameCorrected, NumberChanged, PlacementChanged,
            StudentWithdrawn, StaffLeft, EnrollmentVoided, ClassesChanged, PersonsMerged, PersonsSplit
            (contracts/events/roster/), by key person_id.
"""
