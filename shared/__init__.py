"""The kit that the services are made of. It knows no rule of any service, and imports none.

What a service records:   messages, event_store, transact, database (queries, migrations)
What leaves it:           relay (outbox to topic), history (do store and topic agree?), kafka
What comes in:            consumer, projector, rebuild, dead_letter, projection
What is asked of it:      web, auth, once, openapi, references
What it is run with:      settings, policy, keys, log, service
What it is tested with:   testing
"""
