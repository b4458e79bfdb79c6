"""What a OneRoster export says of a district's students and staff: read, never interpreted half.

`archive` opens a zip or a folder as named files, `tables` reads a CSV file as rows with their lines, `cells` what a
cell holds, `export` joins users, roles and orgs into one row for each person. All of it is synchronous and pure
reading: no database, no Kafka, no clock; a worker runs it in a thread or a child.

The specification: OneRoster 1.1 CSV Tables and OneRoster 1.2 CSV Binding, of 1EdTech.
"""
