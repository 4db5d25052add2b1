"""Builds stores, clients and services from the settings: the only place that builds real objects.

A module for each kind of process, so that a process imports only modules it needs: starting is mostly importing.
"""
