"""The one-command stack: a real PostgreSQL, a real Apache Kafka and the services on one machine that has only Python.

account.py      the unprivileged account for PostgreSQL and Kafka when root runs the stack
processes.py    a process that can be found again, and only that one, by pid and start time
postgres.py     PostgreSQL: from the wheel, from a folder, or a server that runs already
kafka.py        Apache Kafka: jars by a committed list, a Java, or a broker that runs already
"""
