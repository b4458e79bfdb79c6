"""The one-command stack: a real PostgreSQL, a real Apache Kafka and the services on one machine that has only Python.

supervisor.py   the process that starts everything in order, watches it, and stops it
parts.py        one supervised process, whatever it runs; its log is bounded
state.py        what is written down: ports, processes, credentials; what `homeroom status` tells
backing.py      which PostgreSQL, Java and Kafka: the packaged ones, or the user's own
postgres.py     PostgreSQL as a part
kafka.py        Apache Kafka as a part; its jars by a committed list
service.py      roster, claims or auth as a part
provision.py    databases, clients, the sample district; waiting until the read models are up to date
sample.py       the sample district
account.py      the unprivileged account for PostgreSQL and Kafka when root runs the stack
processes.py    processes that are found again by pid and birth; ports
"""
