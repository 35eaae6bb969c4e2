"""Where views are kept: the contract of such a database."""

from __future__ import annotations

from abc import ABC, abstractmethod

from taxi_assets.core.view import View


class ViewPlace(ABC):
    """A database that keeps views."""

    @abstractmethod
    def replace(self, view: View) -> bool:
        """Create the view over those of its tables that exist, or replace another definition; whether anything changed.

        Raises:
            TransientError, PermanentError: what was there is unchanged.
        """

    @abstractmethod
    def where(self, view: View) -> str:
        """The location of the view, for display."""
