"""What every section of `tenfold.toml` shares. Base of the models in `tiers` and `links`. Pure."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """What every section shares: frozen, and strict about names and types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
