"""What tests of every part share: the backing PostgreSQL and Kafka, and helpers to reach them."""
