"""The kit that the services are made of. It knows no rule of any service, and imports none.

What a service records:   messages, event_store, transact, projection, database (queries, migrations)
What leaves it:           relay (outbox to topic), history (do store and topic agree?), kafka
What comes in:            reader, letter, dead_letter, runner, shares, consumer, projector, rebuild, rebuilder, builder
What is asked of it:      web, problems, auth, once, timeline, health, openapi
What it is run with:      settings, policy, policies, keys, log, metrics, supervisor, service
What it is tested with:   testing
"""
