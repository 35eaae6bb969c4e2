"""Where views are kept: the contract of such a database."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from taxi_assets.core.view import View


class ViewPlace(ABC):
    """A database that keeps views."""

    @abstractmethod
    def replace(self, views: Sequence[View]) -> list[str]:
        """Create each view over those of its tables that exist, or replace another definition; the names of those that changed.

        A view none of whose tables exists is left out.

        Raises:
            TransientError, PermanentError: what was there is unchanged, or some of the views have changed.
        """
