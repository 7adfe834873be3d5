"""The documented transactional loop of aiokafka: getmany, decide, send, send the positions, commit.

aiokafka 0.14 takes only the group's name with the positions, so that a worker which has left its group is not fenced.
"""

import asyncio
import threading

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from bench.peers.serving.answering import Answering
from bench.peers.serving.words import BACKOFF_MS, BATCH, TRANSACTION_TIMEOUT_MS, Words, read_words, stop_on_sigterm


def open_clients(words: Words) -> tuple[AIOKafkaConsumer, AIOKafkaProducer]:
    """Make a consumer that reads what is committed, and a transactional producer; neither is started."""
    consumer = AIOKafkaConsumer(
        words.requests,
        bootstrap_servers=words.brokers,
        group_id=words.group,
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    producer = AIOKafkaProducer(
        bootstrap_servers=words.brokers,
        transactional_id=f"{words.group}-loop",
        transaction_timeout_ms=TRANSACTION_TIMEOUT_MS,
        linger_ms=0,
        retry_backoff_ms=BACKOFF_MS,
    )
    return consumer, producer


async def run(words: Words, stop: threading.Event) -> None:
    """Decide until the process is asked to end."""
    answering = Answering(words.model)
    consumer, producer = open_clients(words)
    await producer.start()
    await consumer.start()
    while not stop.is_set():
        records = await consumer.getmany(timeout_ms=500, max_records=BATCH)
        if not records:
            continue
        rows = [row for some in records.values() for row in some]
        answers = answering.answer([row.value for row in rows])
        async with producer.transaction():
            for row, (key, value) in zip(rows, answers, strict=True):
                await producer.send(words.decisions, value, key=key, partition=row.partition)
            positions = {place: some[-1].offset + 1 for place, some in records.items()}
            await producer.send_offsets_to_transaction(positions, words.group)
    await consumer.stop()
    await producer.stop()


if __name__ == "__main__":
    asyncio.run(run(read_words(), stop_on_sigterm()))
