"""Settings made into stores, clients and services: the only place that builds real things.

A module for each kind of process, so that none imports what another needs: starting is mostly importing.
"""
