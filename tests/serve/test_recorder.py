"""Replies on their way into the record: one that cannot be written keeps nobody waiting and takes no other along."""

import asyncio

from sqlalchemy.exc import SQLAlchemyError

from feedback.schema import Sample
from serve.record import Record
from serve.recorder import Recorder
from tests.feedback.record import sample


async def test_what_breaks_one_reply_is_raised_to_who_waits_for_it(record: Record) -> None:
    good, broken, again = sample("5"), sample("6"), sample("7")
    broken.messages = None
    again.id = good.id
    recorder = Recorder(record)
    async with asyncio.timeout(30):
        answers = await asyncio.gather(
            *(recorder.add([row]) for row in (good, broken, again, sample("8"))), return_exceptions=True
        )
    assert answers[0] is None and answers[3] is None
    assert isinstance(answers[1], TypeError)
    assert isinstance(answers[2], SQLAlchemyError)
    kept = record.store.read(lambda session: [row.text for row in session.query(Sample).order_by(Sample.text)])
    assert kept == ["5", "8"]
    await recorder.add([sample("9")])
    await recorder.stop()
