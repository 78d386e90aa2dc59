"""What people and programs can do with a gateway: one set of functions for all interfaces.

The command line, the compatible API, the operator API and the pages call these. A method takes the account first
(or a value that has it, such as a Number), returns values, and raises the errors of `services.errors`.
"""
