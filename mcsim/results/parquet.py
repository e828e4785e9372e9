"""Tables as the bytes of a Parquet file."""

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq


def parquet(table: pa.Table) -> bytes:
    """The file of a table: same content, same bytes."""
    buffer = pa.BufferOutputStream()
    names = [field.name for field in table.schema if pa.types.is_dictionary(field.type)]
    pq.write_table(
        _canonical(table),
        buffer,
        compression="zstd",
        use_dictionary=names,
        write_page_checksum=True,  # a flipped bit is an error, never another number
    )
    return bytes(buffer.getvalue())


def _canonical(table: pa.Table) -> pa.Table:
    """One chunk per column, dictionaries in order of appearance."""
    columns = [
        _in_order_of_appearance(column) if pa.types.is_dictionary(column.type) else column
        for column in table.combine_chunks().columns
    ]
    return pa.table(columns, schema=table.schema)


def _in_order_of_appearance(column: pa.ChunkedArray) -> pa.Array:
    if column.null_count or column.num_chunks != 1:
        return column.cast(pa.string()).combine_chunks().dictionary_encode()
    codes, names = column.chunk(0).indices, column.chunk(0).dictionary
    present = pc.unique(codes)
    new_codes = pc.index_in(codes, present)
    return pa.DictionaryArray.from_arrays(new_codes, names.take(present))
