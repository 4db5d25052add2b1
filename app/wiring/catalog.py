"""Builds the catalog of all upstreams' models, and the check of their model servers."""

from app.adapters.upstream.calling import calling_of
from app.adapters.upstream.catalog import HttpCatalog
from app.adapters.upstream.catalogs import FirstCatalog, UnitedCatalog
from app.adapters.upstream.probe import ProbedServer
from app.config import Settings
from app.services.upstream_check import UpstreamCheckService


def build_catalog(settings: Settings) -> UnitedCatalog:
    """Build the catalog, which asks the upstreams for their models."""
    catalogs = {
        spec.name: FirstCatalog([HttpCatalog(url, **calling_of(spec)) for url in spec.urls])
        for spec in settings.upstreams
    }
    return UnitedCatalog(catalogs, settings.routes, settings.endpoints)


def build_upstream_check(
    settings: Settings, patience_s: float, *, may_stop_at_list: bool = False
) -> UpstreamCheckService:
    """Build the check that tries each model server once."""
    return UpstreamCheckService(
        settings.routes, settings.endpoints, ProbedServer, patience_s, may_stop_at_list=may_stop_at_list
    )
