"""The migrations are one line: of two with the same number the database would take neither."""

from pathlib import Path

from alembic.config import Config
from alembic.script import ScriptDirectory

from feedback import migrations


def test_they_are_one_line_and_numbered() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    line = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]
    files = sorted(path.name[:4] for path in (Path(migrations.__file__).parent / "versions").glob("[0-9]*.py"))
    assert line[::-1] == files == sorted(set(files))
