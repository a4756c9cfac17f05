// JDBC: setString with stringtype=unspecified, arrays, server-prepared statements with binary transfer, batches.
import java.sql.*;

public class WithJdbc {
    static final float[] VECTOR = {0.1f, -1.5f, 3.0e-5f, 7.25f};
    static final String TEXT = "[0.1,-1.5,3.0e-5,7.25]";

    public static void main(String[] arguments) throws Exception {
        String url = "jdbc:postgresql://" + arguments[0] + ":" + arguments[1]
            + "/e2e?user=postgres&stringtype=unspecified&prepareThreshold=3";
        try (Connection connection = DriverManager.getConnection(url)) {
            Array array = connection.createArrayOf("float4", new Float[] {0.1f, -1.5f, 3.0e-5f, 7.25f});
            try (PreparedStatement insert = connection.prepareStatement("INSERT INTO jdbc VALUES (?, ?)")) {
                for (int n = 0; n < 8; n++) {
                    insert.setString(1, "text " + n);
                    insert.setString(2, TEXT);
                    insert.executeUpdate();
                }
            }
            try (PreparedStatement insert = connection.prepareStatement("INSERT INTO jdbc VALUES (?, ?)")) {
                for (int n = 0; n < 8; n++) {
                    insert.setString(1, "array " + n);
                    insert.setArray(2, array);
                    insert.executeUpdate();
                }
            }
            try (PreparedStatement insert = connection.prepareStatement("INSERT INTO jdbc VALUES (?, ?)")) {
                for (int n = 0; n < 8; n++) {
                    insert.setString(1, "object " + n);
                    insert.setObject(2, VECTOR);
                    insert.addBatch();
                }
                insert.executeBatch();
            }
            int rows = 0;
            String sealed = null;
            try (ResultSet read = connection.createStatement().executeQuery(
                    "SELECT id, sealvec.open(embedding), embedding FROM jdbc")) {
                for (; read.next(); rows++) {
                    Float[] elements = (Float[]) read.getArray(2).getArray();
                    for (int i = 0; i < 4; i++) {
                        if (Math.abs(elements[i] - VECTOR[i]) > 1e-7) throw new Exception(read.getString(1) + ": " + elements[i]);
                    }
                    sealed = read.getString(3);
                    if (!sealed.startsWith("sealvec1.")) throw new Exception(sealed);
                }
            }
            if (rows != 24) throw new Exception(rows + " rows");
            try (PreparedStatement near = connection.prepareStatement(
                    "SELECT id, embedding <-> ?::sealvec AS distance FROM jdbc ORDER BY 2 LIMIT 1")) {
                for (String parameter : new String[] {TEXT, sealed}) {
                    for (int n = 0; n < 7; n++) {
                        near.setString(1, parameter);
                        try (ResultSet answer = near.executeQuery()) {
                            answer.next();
                            if (answer.getDouble(2) > 1e-6) throw new Exception("distance " + answer.getDouble(2));
                        }
                    }
                }
            }
            try (PreparedStatement update = connection.prepareStatement("UPDATE jdbc SET embedding = ? WHERE id = 'array 0'")) {
                update.setString(1, sealed);
                update.executeUpdate();
            }
        }
        System.out.println("ok");
    }
}
